/** Pushing bundles: whole or not at all to a directory, PUT with a token to a URL; and crews that answer as one engine. */
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildBundle } from "@drover/shepherd/opa/bundle";
import { openCrew } from "@drover/shepherd/opa/crew";
import { initProject, pushBundle, readProject } from "@drover/shepherd/opa/project";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { changed, exampleInput, operatorFolder } from "./vectors.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "drover-project-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const bundle = (text: string) => new Uint8Array(Buffer.from(text));

test("a directory gets the bundle under both names, and nothing unfinished", async () => {
  const to = join(folder, "out");
  await pushBundle(bundle("one"), { owner: "operator", to, revision: "r/1" });
  const at = await pushBundle(bundle("two"), { owner: "operator", to, revision: "r2" });
  expect(at).toBe(join(to, "bundle.tar.gz"));
  expect(readFileSync(at, "utf8")).toBe("two");
  expect(readdirSync(to).toSorted((a, b) => (a < b ? -1 : 1))).toEqual([
    "bundle-r2.tar.gz",
    "bundle-r_1.tar.gz",
    "bundle.tar.gz",
  ]);
});

test("a URL gets a PUT with the token; a refusal is told with its status", async () => {
  const got: { method: string; body: string }[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const isKnown = request.headers.authorization === "Bearer sesame";
      if (isKnown)
        got.push({
          method: request.method ?? "",
          body: Buffer.concat(chunks).toString(),
        });
      response.writeHead(isKnown ? 201 : 403).end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const to = `http://127.0.0.1:${(server.address() as AddressInfo).port}/north`;
  try {
    writeFileSync(join(folder, "token"), "sesame\n");
    const target = { owner: "operator", to, revision: "r1" };
    await pushBundle(bundle("one"), { ...target, tokenFile: join(folder, "token") });
    expect(got).toMatchObject([{ method: "PUT", body: "one" }]);
    await expect(pushBundle(bundle("one"), target)).rejects.toMatchObject({
      code: "policy.source_unreachable",
      details: { problem: "HTTP 403 Forbidden" },
    });
  } finally {
    server.close();
  }
});

test.each([
  ["no owner", "coverage_percent: 90\n", /lacks the key owner/],
  ["an owner that is none", "owner: north\n", /operator, site:NAME or owner:NAME/],
  ["a coverage beyond all", "owner: operator\ncoverage_percent: 101\n", /from 0 to 100/],
])("a project with %s is refused", async (_, text, problem) => {
  writeFileSync(join(folder, "policy.yaml"), text);
  await expect(readProject(folder)).rejects.toMatchObject({
    code: "policy.data_invalid",
    details: { problem: expect.stringMatching(problem) },
  });
});

test("init writes the owner everywhere, and a CI file only when it is wanted", async () => {
  const made = join(folder, "made");
  expect(await initProject(made, { owner: "owner:alice", ci: "none" })).toEqual([
    "README.md",
    "data.yaml",
    "policy.yaml",
    "rules/largest_machine.rego",
    "rules/largest_machine_test.rego",
    "tests/vectors.json",
  ]);
  expect(await readProject(made)).toMatchObject({ owner: "owner:alice", coveragePercent: 90 });
  expect(readFileSync(join(made, "README.md"), "utf8")).toContain("# Policy of owner:alice");
});

test("a crew answers as one engine would", async () => {
  const crew = await openCrew(await buildBundle({ owner: "operator", folder: operatorFolder }));
  const asked = Array.from({ length: 12 }, (_, n) =>
    changed(exampleInput, { "/request/reason": `ask ${n}` }),
  );
  const answers = await Promise.all(asked.map((input) => crew.evaluate("decision", input)));
  expect(new Set(answers.map(({ effect }) => effect))).toEqual(new Set(["allow"]));
  await crew.close();
  const [first] = asked;
  if (first === undefined) throw new Error("nothing was asked");
  expect((await crew.evaluate("decision", first)).effect).toBe("deny");
});
