/**
 * docs/policy.md followed to the letter by somebody who knows Rego and not drover: its rule, its test, its data, and the
 * commands of its section "the whole way", on a whole shepherd with simulated sites. What the page prints must be
 * printed, but for ids, digests and times.
 */
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TokenAnswer } from "@drover/shepherd/api/contract";
import type { PolicyView } from "@drover/shepherd/api/contract-policies";
import { runCommand } from "@drover/shepherd/cli/main";
import { afterAll, beforeAll, expect, jest, test } from "@jest/globals";
import { declareRing, need, type Running, run } from "../shepherd/api/shepherd.ts";

/** Compilers and workers on a busy machine. */
jest.setTimeout(300_000);

const page = readFileSync(join(import.meta.dirname, "../../docs/policy.md"), "utf8");
const [, wholeWay = ""] = page.split("## Writing one: the whole way");
const [walk = ""] = wholeWay.split("\n## ");

const folder = mkdtempSync(join(tmpdir(), "drover-walk-"));
const at = (name: string) => join(folder, name);
let running: Running;
const tokens: Record<string, string> = {};

beforeAll(async () => {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  writeFileSync(at("north.pem"), privateKey.export({ type: "pkcs8", format: "pem" }));
  writeFileSync(at("north.pub"), publicKey.export({ type: "spki", format: "pem" }));
});
afterAll(async () => {
  await running?.end();
  rmSync(folder, { recursive: true });
});

/** Code blocks of the page, by language. */
function blocks(text: string, language: string): string[] {
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "gms"))].map(
    ([, code = ""]) => code,
  );
}

interface Step {
  readonly who: string;
  readonly argv: readonly string[];
  /** Lines that the page prints, in their order; `…` stands for any. */
  readonly printed: readonly string[];
}
function stepsOf(text: string): Step[] {
  return blocks(text, "console").flatMap((block) =>
    block
      .split(/^(?=\w*\$ )/m)
      .filter((part) => part.trim() !== "")
      .map((part) => {
        const [line = "", ...printed] = part.trimEnd().split("\n");
        const [, who = "", command = ""] = /^(\w*)\$ drover (.*)$/.exec(line) ?? [];
        if (command === "") throw new Error(`not a command of drover: ${line}`);
        const argv = [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(
          ([, quoted, plain]) => quoted ?? plain ?? "",
        );
        return { who, argv, printed };
      }),
  );
}

/** What differs from run to run is one sign. */
function steady(line: string): string {
  return line
    .replaceAll(folder, "")
    .replaceAll(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}/g, "ID")
    .replaceAll(/\b[0-9a-f]{12,64}\b/g, "HEX")
    .replaceAll(/\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+Z)?/g, "TIME")
    .replaceAll(/\b\d\d:\d\d:\d\d\b/g, "TIME")
    .replaceAll(/\d+(\.\d+)? (ms|s)\b/g, "N s")
    .replaceAll(/\d+(\.\d+)? %/g, "N %")
    .replaceAll(/\d+ (vectors|answers|bytes)/g, "N $1")
    .replaceAll(/is at \/?published/g, "is at published")
    .replaceAll(/(rego|yaml):\d+/g, "$1:N")
    .replaceAll(/\s+/g, " ")
    .trim();
}

let lastId = "";
async function take({ who, argv }: Step): Promise<{ code: number; out: string }> {
  let out = "";
  const tell = (text: string) => {
    out += text;
  };
  const where =
    running === undefined
      ? []
      : who === ""
        ? ["--endpoint", running.endpoint]
        : ["--endpoint", need(running.shepherd.listening), "--token", need(tokens[who])];
  const isLocal = argv[0] === "policy" && ["init", "test", "publish"].includes(argv[1] ?? "");
  const named = argv.map((word) =>
    /^(north-policy|published|north\.pem)$/.test(word) ? at(word) : word === "ID" ? lastId : word,
  );
  const code = await runCommand([...named, ...(isLocal ? [] : where)], { out: tell, err: tell });
  lastId = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}/.exec(out)?.[0] ?? lastId;
  return { code, out };
}

/** Each printed line is there, in this order. */
function expectPrinted(out: string, step: Step): void {
  const lines = out.split("\n").map(steady);
  let from = 0;
  for (const wanted of step.printed.map(steady)) {
    if (wanted === "…" || wanted === "") continue;
    const found = lines.indexOf(wanted, from);
    expect({ command: step.argv.join(" "), line: found < 0 ? lines.slice(from) : wanted }).toEqual({
      command: step.argv.join(" "),
      line: wanted,
    });
    from = found + 1;
  }
}

test("the page is followed from the first line to the rollback", async () => {
  const steps = stepsOf(walk);
  for (const step of steps) {
    const [verb] = step.argv;
    // Before the first question to a shepherd there is none.
    if (running === undefined && verb !== "policy") {
      await startShepherd();
      writeSources();
    }
    if (step.argv.includes("--end-shadow")) await shadowHeard(2);
    const { code, out } = await take(step);
    if (process.env["WALK"] === "print") console.log(`${step.argv.join(" ")} -> ${code}\n${out}`);
    expectPrinted(out, step);
  }
  const verbs = new Set(
    steps.map(({ argv }) => argv.slice(0, argv[0] === "policy" ? 2 : 1).join(" ")),
  );
  expect([...verbs]).toEqual(
    expect.arrayContaining([
      "policy init",
      "policy test",
      "policy try",
      "policy publish",
      "policy activate",
      "policy rollback",
      "explain",
      "why-not",
    ]),
  );
});

/** What is overheard is judged after it was decided: wait until it was. */
async function shadowHeard(decisions: number): Promise<void> {
  for (;;) {
    const { items } = await running.client.get<{ items: PolicyView[] }>("/v1/policies");
    const north = items.find(({ owner }) => owner === "site:north");
    if ((north?.shadow?.report.replayed ?? 0) >= decisions) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** What the page says to put into the repository. */
function writeSources(): void {
  const project = at("north-policy");
  const [rule = ""] = blocks(page, "rego");
  const [tests = ""] = blocks(walk, "rego");
  const data = need(blocks(walk, "yaml").find((text) => text.includes("largest_step")));
  const [vectors = ""] = blocks(walk, "json");
  writeFileSync(join(project, "rules/largest_step.rego"), rule);
  writeFileSync(join(project, "rules/largest_step_test.rego"), tests);
  writeFileSync(join(project, "data.yaml"), data);
  writeFileSync(join(project, "tests/vectors.json"), vectors);
}

async function startShepherd(): Promise<void> {
  running = await run(`listen: "127.0.0.1:0"
policies:
  max_flips: 0
  bundles:
    "site:north":
      source: ${at("published")}
      keys: [{ id: north, algorithm: EdDSA, file: ${at("north.pub")} }]`);
  await declareRing(running, 2);
  for (const [name, role] of [
    ["sue", "security"],
    ["otto", "operator"],
  ]) {
    const { token } = await running.client.call<TokenAnswer>("POST", "/v1/tokens", {
      body: { name, role },
    });
    tokens[need(name)] = token;
  }
}
