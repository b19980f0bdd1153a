/** An audit report as SARIF 2.1.0, so that code scanning tools can show it. Pure; knows no shepherd. */
import type { AuditReport } from "#api/contract-people";

const levels: Readonly<Record<string, "error" | "warning" | "note">> = {
  deny: "error",
  approve: "warning",
  warn: "warning",
  audit: "note",
};

export function sarifOf(report: AuditReport): unknown {
  const ruleIds = [...new Set(report.findings.map(({ rule }) => rule))].toSorted();
  return {
    $schema: "https://json.schemastore.org/sarif-2.1.0.json",
    version: "2.1.0",
    runs: [
      {
        tool: {
          driver: { name: "drover audit", version: "0.1.0", rules: ruleIds.map((id) => ({ id })) },
        },
        results: report.findings.map((finding) => ({
          ruleId: finding.rule,
          ruleIndex: ruleIds.indexOf(finding.rule),
          // A level that nobody knows denies, here as in the policy.
          level: levels[finding.level] ?? "error",
          message: { text: `${finding.environment}: ${finding.msg}` },
          locations: [
            {
              ...(finding.source === null
                ? {}
                : {
                    physicalLocation: {
                      artifactLocation: { uri: finding.source.file },
                      region: { startLine: finding.source.line },
                    },
                  }),
              logicalLocations: [
                {
                  name: finding.environment,
                  fullyQualifiedName: `${finding.environment}/${finding.path ?? finding.id}`,
                },
              ],
            },
          ],
          partialFingerprints: {
            "drover/v1": `${finding.environment}/${finding.owner}/${finding.rule}/${finding.id}`,
          },
          properties: { owner: finding.owner, instance: finding.id, code: finding.code },
        })),
      },
    ],
  };
}
