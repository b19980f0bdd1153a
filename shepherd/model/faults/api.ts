/** What the API, its callers and the configuration can meet. A part of the catalogue of fault codes (model/fault-catalogue.ts). */
import { entry, type FaultEntry } from "#model/faults/entry";

export const callFaults = {
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
  "conflict.managed": entry(
    409,
    "never",
    "{kind} {key} is managed by {managedBy}",
    "Let that state give it up (terraform state rm there), or change it there.",
  ),
  "object.protected": entry(
    409,
    "never",
    "{kind} {key} is protected from deletion",
    "Set deletion_protection = false and apply, then destroy it.",
  ),
  "object.of_group": entry(
    409,
    "never",
    "Machine {key} belongs to group {group}",
    "Change the group: its template for what its machines are, its machine_count for how many there are.",
  ),
  "machine.restart_needed": entry(
    409,
    "never",
    "{machine} must be restarted for {attributes}",
    "Set allow_restart = true to let the apply power it off and on, or leave these attributes as they are.",
  ),
  "xml_patch.refused": entry(
    422,
    "never",
    "XML patch {path} is refused at site {site}: {problem}",
    "Ask the site's owner to list the path under raw_xml_paths, where it may be listed at all; else leave it out.",
  ),
  "volume.layered": entry(
    409,
    "later",
    "The disk of {machine} on {host} is in two layers, as a move leaves it that was given up; it cannot be kept so",
    "Move the machine, or ask it again with `drover stuck retry`, so that its disk is one file; then destroy it.",
  ),
  "volume.elsewhere": entry(
    409,
    "never",
    "Volume {volume} lies on {host}, the machine is to be on {wanted}",
    "Declare the machine at the volume's site, or give it another volume.",
  ),
  "pool.full": entry(
    507,
    "later",
    "Pool {pool} has no room for {volume}: {free_bytes} of {needed_bytes} bytes are free",
    "Free room in the host's pool, or lend less of its disk so that nothing is placed there.",
  ),
  "volume.taken": entry(
    409,
    "never",
    "Volume {volume} belongs to machine {machine} already",
    "A volume has one writer: take it from that machine first, or declare another volume.",
  ),
  "import.refused": entry(
    409,
    "never",
    "{name} on {host} cannot be imported: {problem}",
    "docs/api.md says which machines of other tools can be taken over, and what becomes of them.",
  ),
  "plan.stale": entry(
    409,
    "after_reconcile",
    "{attribute} of {machine} was {planned} when this was planned and is {now} now; nothing was changed",
    "Plan again and apply what the new plan shows.",
  ),
  "plan.forgotten": entry(
    409,
    "later",
    "The shepherd knows {told} of this run's changes; it was started anew since",
    "The provider tells them again by itself. Another client begins its run's checks anew.",
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
} satisfies Record<string, FaultEntry>;
