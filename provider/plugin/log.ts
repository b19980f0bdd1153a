/**
 * Log lines as Terraform's plugin host parses them: one JSON object a line on standard error. The time must have
 * exactly six fraction digits, or the line is shown raw. Users see them with TF_LOG_PROVIDER=info.
 */
export type Level = "trace" | "debug" | "info" | "warn" | "error";
export type Log = (
  level: Level,
  message: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;

/** Writes to `out`, one line a call; `nowMs` is the clock. */
export function makeLog(out: (line: string) => void, nowMs: () => number): Log {
  return (level, message, fields = {}) => {
    const at = new Date(nowMs()).toISOString().replace(/\.(\d{3})Z$/, ".$1000Z");
    out(
      `${JSON.stringify({
        ...fields,
        "@level": level,
        "@message": message,
        "@module": "provider.drover",
        "@timestamp": at,
      })}\n`,
    );
  };
}

/** A crash in the words that Terraform looks for, so that it shows our stack instead of "plugin did not respond". */
export function crashText(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const stack = error instanceof Error ? (error.stack ?? message) : message;
  return `panic: ${message}\n\ngoroutine 1 [running]:\n${stack}\n`;
}
