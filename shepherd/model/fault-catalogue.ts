/**
 * The one catalogue of fault codes. A code is public: it stands in docs/errors.md (tested both ways), in problem
 * details, in diagnostics and in the journal. `{name}` in a title is filled from the details of the occurrence.
 */
import type { FaultEntry } from "#model/fault";

export const faultCatalogue = {
  internal: entry(
    500,
    "after_reconcile",
    "An unexpected error stopped this work",
    "Look at the shepherd's log; the journal resumes the work on restart.",
  ),

  // configuration
  "config.invalid": entry(
    400,
    "never",
    "{file}:{line}: {problem}",
    "Correct drover.yaml and start again.",
  ),
  "config.unreadable": entry(
    400,
    "never",
    "{file} cannot be read: {problem}",
    "Name the file with --config or DROVER_CONFIG; `drover lab up` writes one.",
  ),

  // the API (api/): calls, access, images
  "request.invalid": entry(
    400,
    "never",
    "{where}: {problem}",
    "Correct the value; /openapi.json describes every body.",
  ),
  "request.not_found": entry(
    404,
    "never",
    "There is no {method} {path}",
    "GET /openapi.json lists what there is.",
  ),
  "request.too_large": entry(
    413,
    "never",
    "The body is larger than {limit_bytes} bytes",
    "Send files with `drover image push`.",
  ),
  "access.token_missing": entry(
    401,
    "never",
    "This listener wants a token",
    "Set DROVER_TOKEN to a token that `drover token create` printed.",
  ),
  "access.token_unknown": entry(
    401,
    "never",
    "No such token is known here",
    "Ask an operator for one: `drover token create --name NAME --role ROLE`.",
  ),
  "access.token_exists": entry(
    409,
    "never",
    "A token named {name} exists already",
    "Choose another name.",
  ),
  "access.denied": entry(
    403,
    "never",
    "{principal} has the role {role}, which may not {access}",
    "Use a token of a role that may, or ask an operator.",
  ),
  "access.not_owner": entry(
    403,
    "never",
    "{principal} does not own this environment; {owner} does",
    "Use the owner's token, or declare an environment of your own.",
  ),
  "access.path": entry(
    403,
    "never",
    "{principal} may not name files of the shepherd's machine, such as {path}",
    "Upload it with `drover image push` and name the blob.",
  ),
  "object.unknown": entry(
    404,
    "never",
    "No {kind} {id} is known",
    "It may have been destroyed; `drover status` shows what there is.",
  ),
  "object.in_use": entry(
    409,
    "later",
    "{kind} {key} is still used by {users}",
    "Destroy what uses it first.",
  ),
  "object.immutable": entry(
    409,
    "never",
    "{attribute} of {kind} {key} cannot be changed from {from} to {to}",
    "Destroy it and declare it again.",
  ),
  "plan.stale": entry(
    409,
    "after_reconcile",
    "{attribute} of {machine} was {planned} when this was planned and is {now} now; nothing was changed",
    "Plan again and apply what the new plan shows.",
  ),
  "image.unreadable": entry(
    400,
    "never",
    "{path} cannot be read by the shepherd: {problem}",
    "Name a file at the shepherd, or send one with `drover image push`.",
  ),
  "image.not_qcow2": entry(
    400,
    "never",
    "{path} is no usable qcow2 image: {problem}",
    "Convert it: qemu-img convert -O qcow2 IN OUT.",
  ),
  "image.backing_path": entry(
    400,
    "never",
    "{path} needs another file, {backing}, which no host's pool has",
    "Flatten it: qemu-img convert -O qcow2 IN OUT.",
  ),
  "image.digest_mismatch": entry(
    400,
    "never",
    "{path} has the SHA-256 {found}, not {expected}",
    "Declare the digest of the file that you mean.",
  ),
  "blob.unknown": entry(
    404,
    "never",
    "{source} was not uploaded here",
    "Send it with `drover image push FILE`.",
  ),
  "blob.digest_mismatch": entry(
    400,
    "never",
    "What arrived has the SHA-256 {found}, not {expected} ({size_bytes} bytes)",
    "Send it again; the file may have changed meanwhile.",
  ),
  "blob.too_large": entry(
    413,
    "never",
    "More than {limit_bytes} bytes arrived",
    "Put the file at the shepherd and name its path as source.",
  ),
  // said by the client and the provider, never thrown as a fault: the catalogue gives them their row
  "shepherd.unreachable": entry(
    503,
    "later",
    "No shepherd answers at {endpoint}: {problem}",
    "Start the shepherd, or name another endpoint (provider block, DROVER_ENDPOINT).",
  ),
  "provider.interrupted": entry(
    503,
    "later",
    "Stopped waiting; the operation goes on at the shepherd",
    "Apply again: it continues there, nothing is started twice.",
  ),
  "state.locked": entry(
    409,
    "later",
    "Another shepherd (process {pid}) runs on the state directory {directory}",
    "Stop it first; two shepherds must never share a journal.",
  ),
  "socket.in_use": entry(
    409,
    "never",
    "Something listens on {socket} already",
    "Stop it, or name another socket in drover.yaml.",
  ),

  // the journal (store/)
  "conflict.exists": entry(
    409,
    "never",
    "A {kind} named {key} exists already with id {existingId}",
    "Import it by its id, or choose another name.",
  ),
  "conflict.version": entry(
    409,
    "after_reconcile",
    "The {kind} {id} changed meanwhile: version {expected} is stored as {stored}",
    "Read it again and repeat the change on what is there now.",
  ),
  "store.newer": entry(
    500,
    "never",
    "The journal was written by a newer shepherd: migration {migration} is unknown here",
    "Start the newer shepherd, or restore a backup of the journal.",
  ),
  "store.migration_changed": entry(
    500,
    "never",
    "Migration {migration} is not the one that made this journal",
    "A migration is final once released: restore its file and add a new one.",
  ),
  "store.fenced": entry(
    409,
    "never",
    "Another shepherd took over this journal with epoch {current}; this one had {epoch}",
    "Stop this shepherd: the newer one runs the hosts now.",
  ),

  // grants and operations (operations/)
  "grant.unknown": entry(
    404,
    "never",
    "No grant {grant} is journaled",
    "Ask again: an operation starts only with a grant for exactly its plan.",
  ),
  "grant.used": entry(
    409,
    "never",
    "Grant {grant} was used by operation {usedBy}",
    "A grant runs one plan once; ask again for another.",
  ),

  "grant.expired": entry(
    409,
    "later",
    "Grant {grant} expired before its operation was admitted",
    "Ask again: facts change, and a permission is for now.",
  ),
  "grant.plan_mismatch": entry(
    409,
    "never",
    "Grant {grant} is not for plan {plan}",
    "Report this as a bug: an operation starts only with a grant for exactly its plan.",
  ),
  "operation.unknown": entry(
    404,
    "never",
    "No operation {operation} is journaled",
    "List operations with `drover operations`.",
  ),
  "operation.cancelled": entry(
    409,
    "never",
    "The operation was cancelled",
    "What it had begun was taken back; ask again if it is still wanted.",
  ),
  "operation.interrupted": entry(
    500,
    "later",
    "Operation {operation} was interrupted and taken back",
    "Ask again if it is still wanted.",
  ),
  "operation.step_timeout": entry(
    504,
    "after_reconcile",
    "{step} did not end within {budgetMs} ms",
    "It may still happen; the shepherd looks at the host before it goes on.",
  ),
  "operation.not_confirmed": entry(
    502,
    "after_reconcile",
    "{step} was done, but the host does not show it",
    "Look at the host; something else may change the same object.",
  ),
  "operation.question": entry(
    409,
    "later",
    "{question}",
    "Answer it on the hosts; the operation goes on when they say so, a stuck one with `drover stuck retry`.",
  ),
  "operation.machine_stuck": entry(
    409,
    "later",
    "Machine {machine} waits for a human: {question}",
    "`drover stuck` shows the question and its commands; then `drover stuck retry {operation}`, or destroy the machine.",
  ),
  "operation.object_gone": entry(
    409,
    "never",
    "The {kind} {id} is gone from the journal",
    "It was destroyed meanwhile; declare it again if it is still wanted.",
  ),
  "machine.placed_already": entry(
    409,
    "never",
    "{machine} is on {host} already",
    "Declare it once; a change of a machine that runs is an update.",
  ),
  "machine.not_running": entry(
    409,
    "later",
    "{machine} is {state} on {host}, so it cannot be changed live",
    "Start it, or destroy and declare it again.",
  ),
  "migration.refused": entry(
    409,
    "later",
    "The move from {from} to {to} was not begun: {problem}",
    "Nothing was changed. Mend what is named, or choose another host.",
  ),
  "migration.stalled": entry(
    504,
    "later",
    "The copy got nowhere and was given up after {afterMs} ms",
    "The guest writes faster than the line carries, or the line is down; it goes on where it was.",
  ),
  "migration.switched": entry(
    409,
    "never",
    "{machine} runs on {to} already: a move that happened is not undone",
    "Ask for a move back if it is wanted.",
  ),
  "migration.disk_in_doubt": entry(
    409,
    "after_reconcile",
    "The disk of {machine} on {host} stays: the machine is {here} there and {elsewhere} on {other}",
    "Find out where the machine is; a disk is removed only where no guest has it and another runs.",
  ),
  "machine.name_taken": entry(
    409,
    "never",
    "Host {host} has a domain named {name} that is not this machine: {holder}",
    "It is never touched. Rename the machine, or the other domain.",
  ),

  // hosts and shell
  "host.unreachable": entry(
    503,
    "later",
    "Host {host} does not answer: {problem}",
    "Check that sshd and libvirtd run there; the shepherd reconnects by itself.",
  ),
  "host.key_mismatch": entry(
    502,
    "never",
    "Host {host} showed another SSH host key than drover.yaml names",
    "If the host was reinstalled, put its new key in drover.yaml; else someone may be in between.",
  ),

  // networks (network/) and commands on hosts (shell/)
  "host.answers": entry(
    409,
    "never",
    "Host {host} answers: it is not dead",
    "Drain it with `drover drain {host}`, or switch it off first and confirm then.",
  ),
  "host.dead": entry(
    409,
    "never",
    "Host {host} was confirmed dead",
    "When it is back and repaired: `drover host return {host}`.",
  ),
  "host.not_dead": entry(
    409,
    "never",
    "Host {host} was not confirmed dead",
    "`drover host list` shows what is said of hosts.",
  ),
  "host.not_clean": entry(
    409,
    "later",
    "Host {host} is back but not clean: {problem}",
    "`drover differences` shows what is left; the host stays drained until `drover drain {host} --lift`.",
  ),
  "sweep.not_litter": entry(
    409,
    "never",
    "{object} on {host} is no litter any more: {problem}",
    "Nothing was removed. `drover differences` shows how things are now.",
  ),
  "host.unknown": entry(
    404,
    "never",
    "No host {host} is configured",
    "Name a host of drover.yaml, or put this one there.",
  ),
  "network.cidr_invalid": entry(
    400,
    "never",
    "{cidr} cannot be a network: {problem}",
    "Give an IPv4 CIDR without host bits, from /8 to /30, such as 10.42.0.0/24.",
  ),
  "network.address_invalid": entry(
    400,
    "never",
    "{address} cannot be an address in {cidr}: {problem}",
    "Choose an address inside the network, or leave it out to be given the lowest free one.",
  ),
  "network.address_in_use": entry(
    409,
    "later",
    "{address} of {cidr} is held by {holder}",
    "Choose another address, or leave it out to be given the lowest free one.",
  ),
  "network.addresses_exhausted": entry(
    409,
    "later",
    "No address of {cidr} is free: {taken} are given",
    "Remove machines of the network, or declare a network with a shorter prefix.",
  ),
  "network.macs_exhausted": entry(
    500,
    "never",
    "No free MAC address was found for NIC {index} of machine {machine}",
    "Report this as a bug: sixteen hashes in a row were taken.",
  ),
  "network.vnis_exhausted": entry(
    507,
    "later",
    "All VXLAN network identifiers from {first} to {last} are given",
    "Remove networks that nobody uses.",
  ),
  "network.apply_failed": entry(
    502,
    "after_reconcile",
    "Host {host} refused a network change at `{command}`: {problem}",
    "Read what the host's kernel said; the next repair tries again from what the host has then.",
  ),
  "network.feature_missing": entry(
    502,
    "never",
    "Host {host} cannot carry networks: {problem}",
    "The host needs iproute2, nftables >= 1.0 and a kernel with bridge, vxlan, ifb, sch_htb, cls_u32, act_mirred and nft's bridge family.",
  ),
  "network.config_invalid": entry(
    500,
    "never",
    "A network setting for host {host} was refused before it reached a command: {problem}",
    "Report this as a bug with the journal's records of the network.",
  ),
  "host.login_refused": entry(
    502,
    "later",
    "Host {host} refused the login of {user}",
    "Put the public half of the key of drover.yaml into that user's authorized_keys on the host.",
  ),
  "shell.exit": entry(
    502,
    "after_reconcile",
    "`{command}` on host {host} ended with exit code {exitCode}: {problem}",
    "Run the command by hand on the host to see more.",
  ),
  "shell.timeout": entry(
    504,
    "after_reconcile",
    "`{command}` on host {host} did not end within {timeoutMs} ms",
    "The host may be overloaded; the command may still have happened, so look before repeating it.",
  ),
  "shell.output_too_long": entry(
    502,
    "never",
    "`{command}` on host {host} wrote more than {limitBytes} bytes",
    "Report this as a bug: no command of ours says that much.",
  ),

  // libvirt (libvirt/): what its daemon answered, and what happened to the connection
  "libvirt.protocol": entry(
    502,
    "after_reconcile",
    "What libvirt sent does not follow its protocol: {problem}",
    "Check that the socket or port really is libvirtd's; else report it with the daemon's version.",
  ),
  "libvirt.disconnected": entry(
    503,
    "after_reconcile",
    "The connection to libvirt ended: {problem}",
    "What was asked may have happened or not: read the state. The shepherd reconnects by itself.",
  ),
  "libvirt.call_timeout": entry(
    504,
    "after_reconcile",
    "libvirt has not answered {procedure} within {timeout_ms} ms",
    "libvirt does not cancel: the call may still run. Read the state before asking again.",
  ),
  "libvirt.auth_required": entry(
    502,
    "never",
    "libvirt wants an authentication that the shepherd does not speak: {offered}",
    "Set auth_unix_rw to none and reach the socket over SSH, or use TLS with client certificates.",
  ),
  "libvirt.internal": entry(
    502,
    "after_reconcile",
    "libvirt failed in {procedure}: {message}",
    "See the daemon's log on the host. After a stuck unplug, restarting libvirtd is safe for guests.",
  ),
  "libvirt.bad_argument": entry(
    400,
    "never",
    "libvirt refused an argument of {procedure}: {message}",
    "This is a bug of the shepherd or a limit of the host's version; the message names the argument.",
  ),
  "libvirt.operation_failed": entry(
    502,
    "after_reconcile",
    "libvirt could not finish {procedure}: {message}",
    "Read the state of the object, then decide.",
  ),
  "libvirt.system": entry(
    502,
    "later",
    "A system call failed in {procedure}: {message}",
    "QEMU may have died or an address may not be reachable; see the host's QEMU log.",
  ),
  "libvirt.rpc": entry(
    502,
    "never",
    "libvirt refused the call {procedure}: {message}",
    "The daemon is older than the call, or access was not granted on this socket.",
  ),
  "libvirt.no_domain": entry(
    404,
    "never",
    "libvirt knows no such domain: {message}",
    "It was stopped, moved or never started on this host.",
  ),
  "libvirt.no_network": entry(
    404,
    "never",
    "libvirt knows no such network: {message}",
    "Look at the networks of this host.",
  ),
  "libvirt.no_pool": entry(
    404,
    "never",
    "libvirt knows no such storage pool: {message}",
    "Create the pool that drover.yaml names for this host, of type dir, and start it.",
  ),
  "libvirt.no_volume": entry(
    404,
    "never",
    "libvirt knows no such volume: {message}",
    "It was removed, or the pool was not refreshed.",
  ),
  "libvirt.exists": entry(
    409,
    "never",
    "libvirt already has such an object: {message}",
    "Choose another name, or adopt the existing one.",
  ),
  "libvirt.invalid_now": entry(
    409,
    "after_reconcile",
    "{procedure} is not possible in the present state: {message}",
    "Read the state: the domain may have stopped or moved meanwhile.",
  ),
  "libvirt.unsupported_config": entry(
    400,
    "never",
    "The host cannot run this configuration: {message}",
    "Compare the host's QEMU and libvirt versions with what the machine needs.",
  ),
  "libvirt.timeout": entry(
    504,
    "after_reconcile",
    "libvirt waited too long in {procedure}: {message}",
    "A lock or the guest held it up; whether the change happened must be read from the host.",
  ),
  "libvirt.unsupported_argument": entry(
    400,
    "never",
    "libvirt does not know a parameter of {procedure}: {message}",
    "The host's libvirt is too old for this feature.",
  ),
  "libvirt.aborted": entry(
    409,
    "later",
    "{procedure} was aborted: {message}",
    "The guest goes on where it was; ask again if the move is still wanted.",
  ),
  "libvirt.unsafe_migration": entry(
    409,
    "never",
    "libvirt calls this migration unsafe: {message}",
    "Disks that are not shared must be copied with the move.",
  ),
  "libvirt.unsupported": entry(
    501,
    "never",
    "The host does not support {procedure}: {message}",
    "Use a host with a newer libvirt or QEMU, or without this feature.",
  ),
  "libvirt.agent_unresponsive": entry(
    503,
    "later",
    "The guest agent does not answer: {message}",
    "Start qemu-guest-agent in the guest; the shepherd works without it.",
  ),
  "machine.not_ours": entry(
    409,
    "never",
    "The domain {name} ({id}) of host {host} does not carry our mark",
    "The shepherd touches only what it has made; remove or rename that domain yourself.",
  ),
  "volume.size_mismatch": entry(
    502,
    "later",
    "Volume {volume} has {stored_bytes} bytes after {sent_bytes} were sent; {size_bytes} were announced",
    "The file changed while it was read, or the pool is full; it is placed anew at the next attempt.",
  ),
  "libvirt.other": entry(
    502,
    "after_reconcile",
    "libvirt answered error {libvirt_code} to {procedure}: {message}",
    "The number and the message are libvirt's own; the details hold all it said.",
  ),

  // lab: sites on one machine
  "lab.layout_invalid": entry(
    400,
    "never",
    "The lab cannot be laid out: {problem}",
    "Correct the names of the lab's sites and hosts.",
  ),
  "lab.host_unknown": entry(
    404,
    "never",
    "The lab has no host {host}; it has {hosts}",
    "Name one of the lab's hosts.",
  ),
  "lab.host_failed": entry(
    500,
    "never",
    "{what} of lab host {host} did not start: {problem}",
    "Read the log it names ({file}), then run `drover lab up` again.",
  ),
  "lab.command_failed": entry(
    500,
    "never",
    "`{command}` ended with exit code {exitCode}: {problem}",
    "Run the command by hand to see more; `drover lab down` removes what was made so far.",
  ),
  "lab.address_taken": entry(
    409,
    "never",
    "The lab's addresses {cidr} are routed elsewhere on this machine: {route}",
    "Choose another lab name with DROVER_LAB (each name has its own addresses), or remove the route.",
  ),
  "lab.wan_invalid": entry(
    400,
    "never",
    "The path {text} between sites is no good: {problem}",
    "Write it as `north:south=50ms,200mbit,1%`: 0 to 150 ms of round trip, 10 to 1000 Mbit/s, up to 50 % loss.",
  ),
  "lab.state_directory_foreign": entry(
    409,
    "never",
    "{folder} is not empty and no lab's: it is left alone",
    "Name another state folder, or move what is in it.",
  ),
  "lab.cleanup_failed": entry(
    500,
    "later",
    "Something of the lab stayed: {problem}",
    "Run `drover lab down` again.",
  ),
  "lab.busy": entry(
    409,
    "later",
    "Process {pid} is changing the lab {name}",
    "Wait for it to end, or use another lab with DROVER_LAB.",
  ),
  "lab.not_up": entry(409, "never", "The lab {name} is not up", "Raise it with `drover lab up`."),
  "lab.machine_missing": entry(
    404,
    "later",
    "No lab host runs a machine {machine} with the channel {channel}",
    "Start it; the lab's channel must be among its channels.",
  ),
  "lab.guest_silent": entry(
    504,
    "later",
    "Machine {machine} did not answer on the lab's channel within {timeoutMs} ms",
    "Look at its console on the host: it may still be booting.",
  ),
  "lab.prerequisite_missing": entry(
    500,
    "never",
    "{what} is missing: {problem}",
    "Install it as the message says, then run the command again.",
  ),

  // policy (policy/, opa/)
  "policy.no_compiler": entry(
    500,
    "never",
    "No opa >= 1.20 was found to compile policies: {problem}",
    "Run `make tools`, or put opa 1.20 or newer on PATH.",
  ),
  "policy.source_invalid": entry(
    400,
    "never",
    "The policy of {owner} was refused: {problem}",
    "Correct the Rego at the named place; the policy that was in force stays in force.",
  ),
  "policy.data_invalid": entry(
    400,
    "never",
    "The policy data of {owner} was refused: {problem}",
    "Correct the named instance in the bundle's data.yaml; the data that was in force stays in force.",
  ),
  "policy.bundle_invalid": entry(
    400,
    "never",
    "The policy of {owner} cannot be loaded: {problem}",
    "Build it again from sources of contract 1.",
  ),
  // what people add to a decision (policy/approvals, recalls, exemptions, break-glass)
  "approval.unknown": entry(
    404,
    "never",
    "No approval is wanted for request {request}",
    "`drover approvals list` shows what waits.",
  ),
  "approval.ended": entry(
    409,
    "never",
    "The approval of request {request} is over: {state}",
    "Ask again; a new request waits for new votes.",
  ),
  "approval.own_request": entry(
    403,
    "never",
    "{by} asked for request {request}; another person must approve it",
    "Ask a colleague whose token has the role approver.",
  ),
  "approval.voted": entry(
    409,
    "never",
    "{by} has approved request {request} already; {needs} different people must",
    "Ask another person whose token has the role approver.",
  ),
  "approval.plan_changed": entry(
    409,
    "never",
    "Request {request} would be carried out by another plan now ({now}, not {read}); votes for the old one are void",
    "Read it again with `drover approvals show` and vote on what it says now.",
  ),
  "approval.not_yours": entry(
    403,
    "never",
    "{by} did not ask for request {request} and cannot withdraw it",
    "`drover reject` says no as an approver.",
  ),
  // an answer, not a failure: decisions carry these two codes
  "consent.recalled": entry(
    403,
    "later",
    "The site's owner has recalled its consent",
    "Choose another site, or ask the site's owner to lift the recall.",
  ),
  "policy.advised": entry(
    403,
    "never",
    "The stack wants advice only",
    "Put the advised values into the stack, or set the mode to auto or approve.",
  ),
  "recall.unknown": entry(
    404,
    "never",
    "There is no recall {recall}",
    "`drover recall --list` shows those that stand.",
  ),
  "recall.not_owner": entry(
    403,
    "never",
    "{principal} does not own site {site}; {owner} does",
    "Use the token of the site's owner, or the shepherd's own socket.",
  ),
  "exemption.unknown": entry(
    404,
    "never",
    "There is no exemption {exemption}",
    "`drover exempt --list` shows them.",
  ),
  "exemption.own_proposal": entry(
    403,
    "never",
    "{by} proposed exemption {exemption}; another person must approve it",
    "Ask a colleague whose token has the role approver or security.",
  ),
  "exemption.not_owner": entry(
    403,
    "never",
    "{by} does not speak for {owner}, whose rule this is",
    "Use the token of that owner, or exempt from a rule of the operator.",
  ),
  "break_glass.no_key": entry(
    403,
    "never",
    "No break-glass key is configured",
    "Put the public key into drover.yaml: break_glass: { public_key_files: [FILE] }.",
  ),
  "break_glass.invalid": entry(
    403,
    "never",
    "The break-glass document is not accepted: {problem}",
    "Sign the plan of now: `drover break-glass plan ID`, then `drover break-glass sign`.",
  ),
  "break_glass.plan_changed": entry(
    409,
    "never",
    "The document names plan {named}, but request {request} would be carried out by {now}",
    "Print the plan of now with `drover break-glass plan` and have it signed.",
  ),
  "policy.signature_invalid": entry(
    400,
    "never",
    "The bundle of {owner} was refused: {problem}",
    "Publish it again with `drover policy publish --key`, with a key that drover.yaml trusts for this owner.",
  ),
  "policy.contract_unknown": entry(
    400,
    "never",
    "The bundle of {owner} speaks contract {found}; this shepherd speaks {expected}",
    "Build it again with the `drover` command of this shepherd's version.",
  ),
  "policy.vectors_failed": entry(
    409,
    "never",
    "{failed} of {vectors} vectors of {owner} do not hold: {problem}",
    "Run `drover policy test` in the bundle's folder; the policy that was in force stays in force.",
  ),
  "policy.flips": entry(
    409,
    "never",
    "{flips} of the last {replayed} decisions would turn out otherwise under the new policy of {owner}; at most {limit} may",
    "See who with `drover policy try`; pass the limit with `drover policy activate --override REASON` as a named person.",
  ),
  "policy.override_unnamed": entry(
    403,
    "never",
    "{principal} is no named person, so it cannot override the flip limit",
    "Use a token with a person's name: DROVER_TOKEN of `drover token create --name NAME --role ROLE`.",
  ),
  "policy.source_unreachable": entry(
    502,
    "later",
    "The bundle of {owner} cannot be fetched from {source}: {problem}",
    "Look at the source; the policy in force stays in force.",
  ),
  "policy.no_generation": entry(
    404,
    "never",
    "{owner} has no {generation} to go back to",
    "`drover policy list` names the generations that are kept.",
  ),
  "policy.no_candidate": entry(
    404,
    "never",
    "There is nothing new to activate for {owner}: {problem}",
    "Publish a bundle first: `drover policy publish`.",
  ),
  "policy.test_failed": entry(
    400,
    "never",
    "The policy of {owner} failed its tests: {problem}",
    "Correct what is named, then run `drover policy test` again.",
  ),
  // the gate and intake (policy/gate, intake/)
  "gate.busy": entry(
    503,
    "later",
    "{waiting} requests wait for a decision already",
    "Ask again in a moment; if it lasts, look at who asks that much with `drover watch`.",
  ),
  "request.not_yours": entry(
    403,
    "never",
    "{where}: {problem}",
    "Leave the parameter out to ask for the machine that the channel belongs to.",
  ),
  "request.key_reused": entry(
    409,
    "never",
    "The key {key} belonged to another ask (request {request})",
    "Give every new ask its own id; repeat an id only with the very same words.",
  ),
} satisfies Record<string, FaultEntry>;

function entry(
  status: number,
  retry: FaultEntry["retry"],
  title: string,
  hint: string,
): FaultEntry {
  return { title, hint, status, retry };
}
