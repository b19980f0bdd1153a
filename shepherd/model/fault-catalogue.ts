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
} satisfies Record<string, FaultEntry>;

function entry(
  status: number,
  retry: FaultEntry["retry"],
  title: string,
  hint: string,
): FaultEntry {
  return { title, hint, status, retry };
}
