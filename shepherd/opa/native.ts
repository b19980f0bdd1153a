/**
 * The opa command as the oracle of our WASM host: the same sources, data and inputs, all questions in one process.
 * Used when a bundle is tested or built; no shepherd needs it to decide.
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { findOpa } from "#opa/binary";
import type { RegoSource } from "#opa/sources";
import type { PolicyData } from "#policy/data";
import type { PolicyEntrypoint } from "#ports/policy-engine";

const run = promisify(execFile);
const answersLimitBytes = 256 << 20;
const timeoutMs = 300_000;

export interface NativeQuestion {
  readonly entrypoint: PolicyEntrypoint;
  readonly input: unknown;
  readonly data: PolicyData;
}

const asking = ["decision", "plan_check", "audit"]
  .map(
    (entrypoint) => `answers[n] := answer if {
	some n, question in data.questions
	question.entrypoint == "${entrypoint}"
	answer := data.drover.main.${entrypoint} with input as question.input
		with data.drover.constraints as question.drover.constraints
		with data.drover.exemptions as question.drover.exemptions
}
`,
  )
  .join("\n");

/** Answers of native OPA in the order of the questions; undefined where the entrypoint has no value. */
export async function askNative(
  sources: readonly RegoSource[],
  questions: readonly NativeQuestion[],
): Promise<readonly unknown[]> {
  const opa = await findOpa();
  const folder = await mkdtemp(join(tmpdir(), "drover-oracle-"));
  try {
    const oracle = { path: "oracle.rego", text: `package drover_oracle\n\n${asking}` };
    for (const { path, text } of [...sources, oracle]) {
      await mkdir(dirname(join(folder, "rego", path)), { recursive: true });
      await writeFile(join(folder, "rego", path), text);
    }
    const asked = questions.map(({ entrypoint, input, data }) => ({
      entrypoint,
      input,
      drover: data.drover,
    }));
    await writeFile(join(folder, "questions.json"), JSON.stringify({ questions: asked }));
    const { stdout } = await run(
      opa.path,
      ["eval", "-f", "raw", "-d", "rego", "-d", "questions.json", "data.drover_oracle.answers"],
      { cwd: folder, maxBuffer: answersLimitBytes, timeout: timeoutMs },
    );
    const answers = JSON.parse(stdout) as Record<string, unknown>;
    return questions.map((_, index) => answers[String(index)]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
