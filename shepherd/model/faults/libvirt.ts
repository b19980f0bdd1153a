/** What libvirt answered, and what happened to the connection. A part of the catalogue of fault codes (model/fault-catalogue.ts). */
import { entry, type FaultEntry } from "#model/faults/entry";

export const libvirtFaults = {
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
} satisfies Record<string, FaultEntry>;
