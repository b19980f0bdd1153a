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
} satisfies Record<string, FaultEntry>;

function entry(
  status: number,
  retry: FaultEntry["retry"],
  title: string,
  hint: string,
): FaultEntry {
  return { title, hint, status, retry };
}
