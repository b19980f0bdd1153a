/**
 * Programs that wait on a host for a cut-over: one session in which `bridge` is already running, so that turning a
 * machine's forwarding costs neither a session nor the start of a program, only the way there. What is told here is
 * not answered: whoever tells it looks afterwards. Opened when a move is prepared, kept while the connection lasts.
 * Knows nothing of what the lines mean.
 */
import type { Duplex } from "node:stream";
import type { HostShell } from "#shell/shell";

export interface WaitingPrograms {
  /** Starts them, unless they wait already. False: this host has no way to keep them waiting. */
  open(): Promise<boolean>;
  /** Hands the lines over, at once: false when nobody waits. Each is one command of its program, without line breaks. */
  tell(lines: readonly WaitingLine[]): boolean;
}
export interface WaitingLine {
  readonly program: "bridge" | "nft";
  readonly line: string;
}

/** `-force`: one entry that is there already must not keep the others from being set. nft is short-lived by nature. */
const loop = `while read -r program line; do
case $program in
bridge) printf '%s\\n' "$line" ;;
nft) printf '%s\\n' "$line" | nft -f - >&2 ;;
esac
done | bridge -force -batch - >&2`;

export function createWaitingPrograms(shell: HostShell): WaitingPrograms {
  let session: Duplex | undefined;
  let opening: Promise<Duplex> | undefined;

  async function start(): Promise<Duplex> {
    if (shell.openCommand === undefined) throw new Error("no command of this host can stay open");
    const opened = await shell.openCommand(["sh", "-c", loop]);
    const forget = (): void => {
      if (session === opened) session = undefined;
    };
    opened.on("close", forget).on("error", forget).on("end", forget);
    opened.resume(); // what they say decides nothing, and must not stop them
    session = opened;
    return opened;
  }

  return {
    async open() {
      if (shell.openCommand === undefined) return false;
      if (session !== undefined) return true;
      opening ??= start().finally(() => {
        opening = undefined;
      });
      await opening;
      return true;
    },
    tell(lines) {
      if (session === undefined) return false;
      session.write(lines.map(({ program, line }) => `${program} ${line}\n`).join(""));
      return true;
    },
  };
}
