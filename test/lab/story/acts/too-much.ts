/** Act 3: more than the envelope, a flood, garbage. */
import type { Story } from "../story.ts";
import { guestsOf } from "./measuring.ts";

export async function askTooMuch(story: Story): Promise<void> {
  const { timeline, world } = story;
  const answer = await world.ask("rank-1", { method: "resize", params: { cpu_percent: 6400 } });
  timeline.check(
    "rank-1 asks for 6,400 % and is denied",
    answer.code === 3 && answer.result["rule"] === "envelope",
    String(answer.result["message"]),
  );
  timeline.check(
    "it is told the nearest allowed",
    typeof (answer.result["nearest"] as Record<string, unknown> | undefined)?.["cpu_percent"] ===
      "number",
    answer.result["nearest"],
  );
  const guests = guestsOf(story);
  if (guests === undefined) return;

  const seq = await story.lastSeq();
  // drover-guest opens the port exclusively and lets go a moment after its answer
  const port = "/dev/virtio-ports/dev.drover.0";
  const flood = guests("rank-1").run(
    `i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo '{"jsonrpc":"2.0","id":"f'$i'","method":"resize","params":{"cpu_percent":60}}'; done > /run/flood; until ( exec 3<>${port} ) 2>/dev/null; do sleep 0.2; done; ( exec 3<>${port}; cat /run/flood >&3; timeout 5 cat <&3 > /run/flood.out; true ); grep -c '"id"' /run/flood.out`,
    { timeoutMs: 120_000 },
  );
  const honest: { code: number; ms: number }[] = [];
  for (let round = 0; round < 6; round++) {
    const from = performance.now();
    const got = await world.ask("rank-2", { method: "status", params: {} });
    honest.push({ code: got.code, ms: performance.now() - from });
  }
  await flood;
  const late = honest.filter(({ ms }) => ms > 5_000).length;
  timeline.figure(
    "honest guest during the flood of 1,000",
    `${honest.filter(({ code }) => code === 0).length} of ${honest.length} answered, ${late} late, slowest ${Math.max(...honest.map(({ ms }) => ms)).toFixed(0)} ms`,
  );
  timeline.check(
    "every honest ask is answered",
    honest.every(({ code }) => code === 0),
  );
  const afterFlood = await story.eventsSince(seq);
  const limited = afterFlood
    .filter(({ kind }) => kind === "request.refused")
    .reduce((sum, { data }) => sum + Number(data["count"] ?? 1), 0);
  const judged = afterFlood.filter(({ kind }) => kind === "request.received").length;
  timeline.check(
    "the flood is limited before policy",
    limited >= 900 && judged <= 100,
    `${limited} refused unread, ${judged} judged`,
  );

  const garbageSeq = await story.lastSeq();
  const other = "rank-2";
  const lines = [
    `printf 'no json at all\\n'`,
    `printf '\\377\\376\\200\\n'`,
    `printf '{"jsonrpc":"2.0","id":"e1","method":"resize","params":{"machine":"${other}","cpu_percent":60}}\\n'`,
    `printf '{"jsonrpc":"2.0","id":"e2","method":"resize","params":{"cpu_percent":60,"reason":"\\\\u001b[31mred\\\\u0007"}}\\n'`,
    `(head -c 10485760 /dev/zero | tr '\\000' a; echo)`,
    `printf '{"jsonrpc":"2.0","id":"e3","method":"status","params":{}}\\n'`,
  ];
  await new Promise((resolve) => setTimeout(resolve, 3_000)); // the flood's token bucket fills again
  const bad = await guests("rank-1").run(
    `until ( exec 3<>${port} ) 2>/dev/null; do sleep 0.2; done; ( exec 3<>${port}; (timeout 25 cat <&3 > /run/bad.out) & ${lines.map((line) => `${line} >&3; sleep 1`).join("; ")}; sleep 3; wait ); cat /run/bad.out`,
    { timeoutMs: 90_000 },
  );
  const answers = bad.stdout.split("\n").filter((line) => line.startsWith("{"));
  timeline.check(
    "garbage, invalid UTF-8 and a 10 MB line are refused, and the channel still answers",
    answers.some((line) => line.includes('"e3"') && line.includes("result")),
    `${answers.length} answers`,
  );
  timeline.check(
    "a request that names another machine is refused",
    answers.some((line) => line.includes('"e1"') && line.includes("error")),
  );
  const after = await story.eventsSince(garbageSeq);
  timeline.check(
    "escape sequences in a reason are inert in the journal",
    !JSON.stringify(after).includes("\\u001b"),
  );
  const counted = after.filter(({ kind }) => kind === "request.refused");
  timeline.check(
    "what was refused is counted",
    counted.length >= 2,
    counted
      .map(({ data }) => `${String(data["reason"] ?? data["code"])}: ${String(data["count"] ?? 1)}`)
      .join(", "),
  );
  timeline.check(
    "nothing of rank-2 changed",
    (await story.machine(other)).effective.cpu_percent === 60,
  );
}
