/** The key `policies` of drover.yaml: published bundles, limits and collectors. */
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { Fault } from "@drover/shepherd/model/fault";
import { expect, test } from "@jest/globals";

function policiesOf(lines: string) {
  const text = `world: simulated
policies:
${lines}
sites:
  - id: north
    owner: norma
    hosts:
      - { id: north-1, migration_address: 10.1.0.1, lend: { cpu_percent: 400, memory_mib: 4096, disk_gib: 20 } }
`;
  return readConfiguration(text, "/etc/drover/drover.yaml").policies;
}

test("published bundles are read with their keys and defaults, paths from the file's folder, URLs as they are", () => {
  const { bundles, maxFlips, replayLast, report } = policiesOf(`  max_flips: 3
  replay_last: 200
  bundles:
    "site:north": { source: https://policy.example/north.tar.gz, keys: [{ id: n1, algorithm: ES256, file: north.pub }], activation: automatic, poll_ms: 5000, max_stale_ms: 60000, token_file: north.token }
    operator: { source: published, keys: [{ id: o1, algorithm: EdDSA, file: /keys/o1.pub }] }
  report: { url: http://127.0.0.1:9000/opa, file: opa.jsonl }`);
  expect({ bundles, maxFlips, replayLast, report }).toEqual({
    maxFlips: 3,
    replayLast: 200,
    bundles: {
      "site:north": {
        source: "https://policy.example/north.tar.gz",
        keys: [{ id: "n1", algorithm: "ES256", file: "/etc/drover/north.pub" }],
        activation: "automatic",
        pollMs: 5_000,
        maxStaleMs: 60_000,
        tokenFile: "/etc/drover/north.token",
      },
      operator: {
        source: "/etc/drover/published",
        keys: [{ id: "o1", algorithm: "EdDSA", file: "/keys/o1.pub" }],
        activation: "manual",
        pollMs: 30_000,
        maxStaleMs: undefined,
        tokenFile: undefined,
      },
    },
    report: {
      url: "http://127.0.0.1:9000/opa",
      file: "/etc/drover/opa.jsonl",
      tokenFile: undefined,
    },
  });
});

test.each<[string, string, number, RegExp]>([
  [
    "a bundle without keys",
    '  bundles:\n    "site:north": { source: out, keys: [] }',
    4,
    /keys needs at least 1/,
  ],
  [
    "an algorithm that anybody who checks could sign with",
    "  bundles:\n    operator: { source: out, keys: [{ id: k, algorithm: HS256, file: k.pub }] }",
    4,
    /algorithm is not one of ES256, .*EdDSA|one of ES256/,
  ],
  ["a collector that is no URL", "  report: { url: collector }", 3, /is not an http\(s\) URL/],
  [
    "a misspelt key",
    "  max_flip: 3",
    3,
    /unknown key max_flip in policies; did you mean max_flips/,
  ],
])("refused with its line: %s", (_, lines, line, problem) => {
  try {
    policiesOf(lines);
  } catch (error) {
    expect(error).toBeInstanceOf(Fault);
    const { details } = error as Fault;
    expect({ line: details["line"], problem: details["problem"] }).toEqual({
      line,
      problem: expect.stringMatching(problem),
    });
    return;
  }
  throw new Error("it was accepted");
});
