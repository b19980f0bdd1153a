/**
 * A team's own repository of policy: made, tested and built without any TypeScript of theirs. Testing runs every check
 * that an activation will run, plus what only the author can mend: format, their own Rego tests, coverage.
 */
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { promisify } from "node:util";
import { parse } from "yaml";
import { errorCode } from "#model/error-code";
import { Fault, isFault } from "#model/fault";
import type { WholeBundle } from "#opa/archive";
import { findOpa } from "#opa/binary";
import { buildBundle } from "#opa/bundle";
import { loadPolicy } from "#opa/engine";
import { holdOrdinary } from "#opa/ordinary";
import { libraryFolder } from "#opa/sources";
import { proveVectors, readVectors, type VectorFile } from "#opa/vectors";

const run = promisify(execFile);
const opaTimeoutMs = 120_000;
const outputLimitBytes = 64 << 20;

/** What stands in `policy.yaml`. */
export interface Project {
  readonly folder: string;
  /** `operator`, `site:north`, `owner:alice`. */
  readonly owner: string;
  readonly coveragePercent: number;
}

export interface ProjectCheck {
  readonly check: "format" | "compile" | "load" | "tests" | "coverage" | "vectors";
  readonly ok: boolean;
  /** What was looked at. */
  readonly told: string;
  /** File, line and problem, as the author knows them. */
  readonly problems: readonly string[];
}

export interface ProjectReport {
  readonly owner: string;
  readonly ok: boolean;
  readonly checks: readonly ProjectCheck[];
  /** Ready to be signed; undefined when something failed. */
  readonly bundle: WholeBundle | undefined;
}

export const continuousIntegrations = ["github", "gitlab", "none"] as const;
export type ContinuousIntegration = (typeof continuousIntegrations)[number];

const templateFolder = join(import.meta.dirname, "../cli/policy-project");
const ciFiles: Readonly<Record<ContinuousIntegration, string | undefined>> = {
  github: ".github/workflows/policy.yml",
  gitlab: ".gitlab-ci.yml",
  none: undefined,
};
const ownerPattern = /^(operator|site:[a-z0-9-]{1,40}|owner:([a-zA-Z0-9._@-]{1,64}|\*))$/;

/** Writes a repository with a rule, its test, vectors and a CI file; returns its files. Fault `policy.test_failed` when there is one. */
export async function initProject(
  folder: string,
  { owner, ci }: { readonly owner: string; readonly ci: ContinuousIntegration },
): Promise<readonly string[]> {
  checkOwnerName(owner);
  await mkdir(folder, { recursive: true });
  if ((await readdir(folder)).includes("policy.yaml"))
    throw new Fault("policy.test_failed", { owner, problem: `${folder} holds a policy already` });
  const written: string[] = [];
  for (const name of await filesBelow(templateFolder)) {
    const isCi = name === "github.yml" || name === "gitlab.yml";
    const target = isCi ? (name === `${ci}.yml` ? ciFiles[ci] : undefined) : name;
    if (target === undefined) continue;
    const text = await readFile(join(templateFolder, name), "utf8");
    await mkdir(dirname(join(folder, target)), { recursive: true });
    await writeFile(join(folder, target), text.replaceAll("OWNER", owner), { flag: "wx" });
    written.push(target);
  }
  return written.toSorted();
}

/** Reads `policy.yaml`; a given owner counts more. Fault `policy.data_invalid`. */
export async function readProject(folder: string, owner?: string): Promise<Project> {
  const file = join(folder, "policy.yaml");
  const text = await readFile(file, "utf8").catch((error: unknown) => {
    if (errorCode(error) === "ENOENT" && owner !== undefined) return "";
    throw new Fault(
      "policy.data_invalid",
      {
        owner: owner ?? "?",
        problem: `${file} cannot be read; make one with \`drover policy init\``,
      },
      { cause: error },
    );
  });
  const written = (parse(text) ?? {}) as { owner?: unknown; coverage_percent?: unknown };
  const named = owner ?? written.owner;
  if (typeof named !== "string")
    throw new Fault("policy.data_invalid", { owner: "?", problem: `${file} lacks the key owner` });
  checkOwnerName(named);
  const coverage = written.coverage_percent ?? 90;
  if (typeof coverage !== "number" || coverage < 0 || coverage > 100)
    throw new Fault("policy.data_invalid", {
      owner: named,
      problem: `${file}: coverage_percent must be from 0 to 100`,
    });
  return { folder, owner: named, coveragePercent: coverage };
}

/** Runs all checks it can; a failed one does not hide the others. */
export async function testProject(project: Project): Promise<ProjectReport> {
  const { owner } = project;
  const checks: ProjectCheck[] = [await checkFormat(project)];
  const built = await attempt("compile", checks, async () => {
    const bundle = await buildBundle(project);
    const own = bundle.sources.filter(({ path }) => path.startsWith("own/"));
    return [bundle, `${own.length} files of ${owner}, strict, with schemas and capabilities`];
  });
  const loaded =
    built &&
    (await attempt("load", checks, async () => {
      const engine = await loadPolicy(built);
      await holdOrdinary(built, engine).finally(() => engine.close());
      const rules = Object.keys(built.data.drover.constraints);
      return [engine, `built-ins, entrypoints, parameters of ${rules.length} rules in force`];
    }));
  checks.push(...(await checkTests(project)));
  let bundle = built;
  // what gives no verdict on an ordinary request gives none on most vectors, slowly
  if (built !== undefined && loaded !== undefined) {
    const { file, check } = await proved(project, built);
    bundle = { ...built, vectors: file };
    checks.push(check);
  }
  const ok = checks.every((check) => check.ok);
  return { owner, ok, checks, bundle: ok ? bundle : undefined };
}

async function proved(
  project: Project,
  built: WholeBundle,
): Promise<{ readonly file: VectorFile; readonly check: ProjectCheck }> {
  const written = await readVectors(project.folder);
  const told = `${written.vectors.length} vectors: native OPA, this host and what is expected agree`;
  try {
    const { file, problems } = await proveVectors(built, built.sources, written);
    const lines = problems.map(({ name, problem }) => `${name}: ${problem}`);
    return { file, check: { check: "vectors", ok: lines.length === 0, told, problems: lines } };
  } catch (error) {
    // opa ends at the first question on which a rule contradicts itself, and says where
    const said = (error as { readonly stderr?: unknown }).stderr;
    if (typeof said !== "string" || !said.includes("error")) throw error;
    const problems = said
      .replaceAll("rego/own/", "")
      .replace(/^\d+ errors? occurred: ?/, "")
      .split("\n")
      .filter(Boolean);
    return { file: written, check: { check: "vectors", ok: false, told, problems } };
  }
}

/** The bundle of a project that passes all its checks. Fault `policy.test_failed` names the first problem. */
export async function buildProject(project: Project): Promise<WholeBundle> {
  const { ok, checks, bundle } = await testProject(project);
  const failed = checks.find((check) => !check.ok);
  if (!ok || bundle === undefined)
    throw new Fault("policy.test_failed", {
      owner: project.owner,
      problem: `${failed?.check}: ${failed?.problems[0] ?? failed?.told}`,
    });
  return bundle;
}

/** Puts a bundle where shepherds look for it: a directory (whole or not at all), or a URL that takes PUT. */
export async function pushBundle(
  packed: Uint8Array<ArrayBuffer>,
  target: {
    readonly owner: string;
    readonly to: string;
    readonly revision: string;
    readonly tokenFile?: string | undefined;
  },
): Promise<string> {
  const { owner, to, revision, tokenFile } = target;
  if (/^https?:\/\//.test(to)) {
    const headers = new Headers({ "content-type": "application/gzip" });
    if (tokenFile !== undefined)
      headers.set("authorization", `Bearer ${(await readFile(tokenFile, "utf8")).trim()}`);
    const unreachable = (problem: string, cause?: unknown): Fault =>
      new Fault("policy.source_unreachable", { owner, source: to, problem }, { cause });
    const answer = await fetch(to, { method: "PUT", headers, body: packed }).catch(
      (error: unknown) => {
        throw unreachable(error instanceof Error ? error.message : String(error), error);
      },
    );
    await answer.body?.cancel();
    if (!answer.ok) throw unreachable(`HTTP ${answer.status} ${answer.statusText}`.trim());
    return to;
  }
  await mkdir(to, { recursive: true });
  // the named copy is what a person looks for; the other is what shepherds read
  const safe = revision.replaceAll(/[^A-Za-z0-9._-]/g, "_");
  await writeFile(join(to, `bundle-${safe}.tar.gz`), packed);
  const file = join(to, "bundle.tar.gz");
  await writeFile(`${file}.new`, packed, { flush: true });
  await rename(`${file}.new`, file);
  return file;
}

function checkOwnerName(owner: string): void {
  if (!ownerPattern.test(owner))
    throw new Fault("policy.data_invalid", {
      owner,
      problem: "an owner is operator, site:NAME or owner:NAME",
    });
}

async function attempt<T>(
  check: ProjectCheck["check"],
  checks: ProjectCheck[],
  work: () => Promise<readonly [T, string]>,
): Promise<T | undefined> {
  try {
    const [result, told] = await work();
    checks.push({ check, ok: true, told, problems: [] });
    return result;
  } catch (error) {
    if (!isFault(error) || error.code === "policy.no_compiler") throw error;
    const problem = String(error.details["problem"] ?? error.message);
    checks.push({ check, ok: false, told: error.code, problems: problem.split("\n") });
    return undefined;
  }
}

async function checkFormat({ folder }: Project): Promise<ProjectCheck> {
  const files = (await filesBelow(join(folder, "rules"))).filter((name) => name.endsWith(".rego"));
  if (files.length === 0)
    return { check: "format", ok: true, told: "no Rego of its own", problems: [] };
  const opa = await findOpa();
  const { stdout, stderr } = await tolerant(opa.path, ["fmt", "--list", "rules"], folder);
  const problems = [
    ...stdout
      .split("\n")
      .filter(Boolean)
      .map((name) => `${name}: not formatted; run \`opa fmt -w rules\``),
    ...stderr.split("\n").filter(Boolean),
  ];
  return {
    check: "format",
    ok: problems.length === 0,
    told: `${files.length} files as opa fmt writes them`,
    problems,
  };
}

interface TestResult {
  readonly package: string;
  readonly name: string;
  readonly fail?: boolean;
  readonly error?: unknown;
  readonly skip?: boolean;
  readonly location?: { readonly file: string; readonly row: number };
}
interface Coverage {
  readonly files?: Readonly<
    Record<
      string,
      {
        readonly coverage?: number;
        readonly not_covered?: readonly { readonly start: { readonly row: number } }[];
        readonly covered_lines?: number;
        readonly not_covered_lines?: number;
      }
    >
  >;
}

/** The team's own tests, beside our library and its example. */
async function checkTests({ folder, coveragePercent }: Project): Promise<readonly ProjectCheck[]> {
  const names = await filesBelow(join(folder, "rules"));
  const rules = names.filter((name) => name.endsWith(".rego") && !name.endsWith("_test.rego"));
  if (rules.length === 0)
    return [{ check: "tests", ok: true, told: "no rules of its own to test", problems: [] }];
  const opa = await findOpa();
  const staging = await mkdtemp(join(tmpdir(), "drover-policy-test-"));
  try {
    for (const room of ["main", "lib", "rules"])
      await cp(join(libraryFolder, room), join(staging, "drover", room), {
        recursive: true,
        filter: (file) => !file.endsWith("_test.rego") || file.endsWith("example_test.rego"),
      });
    await cp(join(folder, "rules"), join(staging, "rules"), { recursive: true });
    const args = ["test", "--ignore", "*.json", "--format", "json", "drover", "rules"];
    const tested = await tolerant(opa.path, args, staging);
    const results = parsed<readonly TestResult[]>(tested.stdout);
    if (results === undefined) {
      const problems = `${tested.stderr}${tested.stdout}`.split("\n").filter(Boolean);
      return [{ check: "tests", ok: false, told: "the tests cannot be run", problems }];
    }
    const failed = results.filter(({ fail, error }) => fail === true || error !== undefined);
    const tests: ProjectCheck = {
      check: "tests",
      ok: failed.length === 0 && results.length > 0,
      told: `${results.length} tests of Rego`,
      problems:
        results.length === 0
          ? ["there is no test in rules/: write rules/<name>_test.rego"]
          : failed.map(
              ({ location, name }) => `${location?.file}:${location?.row}: ${name} failed`,
            ),
    };
    if (failed.length > 0) return [tests];
    const covered = await tolerant(opa.path, [...args, "--coverage"], staging);
    return [tests, coverageCheck(parsed<Coverage>(covered.stdout), rules, coveragePercent)];
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

function coverageCheck(
  report: Coverage | undefined,
  rules: readonly string[],
  wantedPercent: number,
): ProjectCheck {
  const files = rules.map((name) => ({
    name: `rules/${name}`,
    ...report?.files?.[`rules/${name}`],
  }));
  const lines = (of: "covered_lines" | "not_covered_lines"): number =>
    files.reduce((total, file) => total + (file[of] ?? 0), 0);
  const all = lines("covered_lines") + lines("not_covered_lines");
  const percent = all === 0 ? 0 : (lines("covered_lines") * 100) / all;
  return {
    check: "coverage",
    ok: percent >= wantedPercent,
    told: `${percent.toFixed(1)} % of the lines of rules/, at least ${wantedPercent} %`,
    problems:
      percent >= wantedPercent
        ? []
        : files.flatMap(({ name, not_covered = [], coverage }) =>
            coverage === undefined
              ? [`${name}: no test reaches it`]
              : not_covered.map(({ start }) => `${name}:${start.row}: no test reaches this`),
          ),
  };
}

/** A failing test is an answer, not a fault of the command. */
async function tolerant(
  path: string,
  args: readonly string[],
  cwd: string,
): Promise<{ readonly stdout: string; readonly stderr: string }> {
  try {
    return await run(path, args, { cwd, timeout: opaTimeoutMs, maxBuffer: outputLimitBytes });
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    if (stdout === undefined || stderr === undefined) throw error;
    return { stdout, stderr };
  }
}

function parsed<T>(text: string): T | undefined {
  try {
    return JSON.parse(text) as T;
  } catch {
    // opa wrote what is wrong instead; the caller shows it
    return undefined;
  }
}

/** Relative paths of all files, sorted; none when there is no such folder. */
async function filesBelow(folder: string): Promise<readonly string[]> {
  try {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
      .toSorted();
  } catch (error) {
    if (errorCode(error) === "ENOENT") return [];
    throw error;
  }
}
