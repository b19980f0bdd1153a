/**
 * The opa command as the oracle of the WASM host: the same sources, data and inputs, all questions in one process.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { findOpa } from "@drover/shepherd/opa/binary";
import type { RegoSource } from "@drover/shepherd/opa/sources";
import type { PolicyData } from "@drover/shepherd/policy/data";
import type { PolicyEntrypoint } from "@drover/shepherd/ports/policy-engine";

export interface NativeQuestion {
  readonly entrypoint: PolicyEntrypoint;
  readonly input: unknown;
  readonly data: PolicyData["drover"] | { constraints: unknown; exemptions: unknown };
}

const asking = `package drover_oracle

answers[n] := answer if {
	some n, question in data.questions
	question.entrypoint == "decision"
	answer := data.drover.main.decision with input as question.input
		with data.drover.constraints as question.data.constraints
		with data.drover.exemptions as question.data.exemptions
}

answers[n] := answer if {
	some n, question in data.questions
	question.entrypoint == "plan_check"
	answer := data.drover.main.plan_check with input as question.input
		with data.drover.constraints as question.data.constraints
		with data.drover.exemptions as question.data.exemptions
}

answers[n] := answer if {
	some n, question in data.questions
	question.entrypoint == "audit"
	answer := data.drover.main.audit with input as question.input
		with data.drover.constraints as question.data.constraints
		with data.drover.exemptions as question.data.exemptions
}
`;

/** Answers of native OPA in the order of the questions; undefined where the entrypoint has no value. */
export async function askNative(
  sources: readonly RegoSource[],
  questions: readonly NativeQuestion[],
): Promise<readonly unknown[]> {
  const opa = await findOpa();
  const folder = mkdtempSync(join(tmpdir(), "drover-oracle-"));
  try {
    for (const { path, text } of [...sources, { path: "oracle.rego", text: asking }]) {
      mkdirSync(dirname(join(folder, "rego", path)), { recursive: true });
      writeFileSync(join(folder, "rego", path), text);
    }
    writeFileSync(join(folder, "questions.json"), JSON.stringify({ questions }));
    const said = execFileSync(
      opa.path,
      ["eval", "-f", "raw", "-d", "rego", "-d", "questions.json", "data.drover_oracle.answers"],
      { cwd: folder, encoding: "utf8", maxBuffer: 256 << 20 },
    );
    const answers = JSON.parse(said) as Record<string, unknown>;
    return questions.map((_, index) => answers[String(index)]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
