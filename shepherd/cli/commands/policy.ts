/**
 * `drover policy`: a security team's six verbs, and what is around them. init, test, publish and catalogue work on a
 * folder; try, activate, rollback, shadow, list and replay ask the shepherd.
 */
import { createPrivateKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { define, exitCodes, type Streams } from "#cli/command";
import { addRollOut } from "#cli/commands/policy-roll-out";
import { clean, show, table } from "#cli/output";
import { Fault } from "#model/fault";
import type { SigningAlgorithm } from "#opa/signatures";

const integrations = ["github", "gitlab", "none"] as const;

export function addPolicy(program: Command, streams: Streams): void {
  const policy = program
    .command("policy")
    .summary("write, test, try, publish, activate and roll back policies");
  addInit(policy, streams);
  addTest(policy, streams);
  addPublish(policy, streams);
  addRollOut(policy, streams);
}

function addInit(policy: Command, streams: Streams): void {
  define<[string | undefined], { owner: string; ci: (typeof integrations)[number] }>(
    policy,
    streams,
    {
      name: "init",
      remote: false,
      summary: "make a repository of your own: a rule, its test, vectors, a CI file",
      setUp: (command) =>
        command
          .argument("[folder]", "where (default: here)")
          .requiredOption("--owner <owner>", "whose policy: operator, site:NAME or owner:NAME")
          .option(
            "--ci <system>",
            integrations.join(", "),
            (name) => {
              if (!(integrations as readonly string[]).includes(name))
                throw new InvalidArgumentError(`Choose one of ${integrations.join(", ")}.`);
              return name;
            },
            "github",
          ),
      async action(context, options, folder = ".") {
        const { initProject } = await import("#opa/project");
        const files = await initProject(folder, options);
        show(context, { folder: resolve(folder), files }, () =>
          [...files, "", "next: drover policy test"].join("\n"),
        );
        return exitCodes.ok;
      },
    },
  );
}

function addTest(policy: Command, streams: Streams): void {
  define<[string | undefined], { owner?: string }>(policy, streams, {
    name: "test",
    remote: false,
    summary: "format, strict check with schema and capabilities, tests with coverage, vectors",
    description: "Exit code 0 when all passed, 1 when one did not.",
    setUp: (command) =>
      command
        .argument("[folder]", "with data.yaml and rules/ (default: here)")
        .option("--owner <owner>", "whose policy (default: as policy.yaml says)"),
    async action(context, options, folder = ".") {
      const { readProject, testProject } = await import("#opa/project");
      const report = await testProject(await readProject(folder, options.owner));
      const { bundle, ...told } = report;
      show(context, { ...told, revision: bundle?.revision ?? null }, () =>
        [
          table(
            ["CHECK", "", "WHAT"],
            report.checks.map(({ check, ok, told: what }) => [check, ok ? "ok" : "FAILED", what]),
          ),
          ...report.checks.flatMap(({ problems }) =>
            problems.map((line) => clean(line.replaceAll("\t", "  "))),
          ),
          report.ok
            ? `\n${report.owner}: revision ${bundle?.revision} can be published`
            : `\n${report.owner}: not fit to be published`,
        ].join("\n"),
      );
      return report.ok ? exitCodes.ok : exitCodes.fault;
    },
  });
}

interface PublishOptions {
  readonly owner?: string;
  readonly to: string;
  readonly key: string;
  readonly keyId: string;
  readonly algorithm?: SigningAlgorithm;
  readonly revision?: string;
  readonly tokenFile?: string;
}

function addPublish(policy: Command, streams: Streams): void {
  define<[string | undefined], PublishOptions>(policy, streams, {
    name: "publish",
    remote: false,
    summary: "test, build, sign and push the bundle to a directory or a URL",
    description:
      "Shepherds that drover.yaml points there fetch it; `drover policy activate` puts it in force.",
    setUp: (command) =>
      command
        .argument("[folder]", "with data.yaml and rules/ (default: here)")
        .requiredOption("--to <place>", "a directory, or an http(s) URL that takes PUT")
        .requiredOption("--key <file>", "PEM of the private key (Ed25519, ECDSA or RSA)")
        .requiredOption("--key-id <id>", "the key's name in drover.yaml")
        .option("--algorithm <name>", "default: what fits the key (EdDSA, ES256, RS256)")
        .option("--revision <name>", "default: from the content")
        .option("--token-file <file>", "bearer token for the URL")
        .option("--owner <owner>", "whose policy (default: as policy.yaml says)"),
    async action(context, options, folder = ".") {
      const { buildProject, pushBundle, readProject } = await import("#opa/project");
      const { packBundle } = await import("#opa/archive");
      const project = await readProject(folder, options.owner);
      const privateKey = readKey(options.key);
      const algorithm = options.algorithm ?? fittingAlgorithm(privateKey, options.key);
      const built = await buildProject(project);
      const revision = options.revision ?? built.revision;
      const packed = packBundle(
        { ...built, revision },
        { id: options.keyId, algorithm, privateKey },
      );
      const { owner } = project;
      const at = await pushBundle(packed, {
        owner,
        to: options.to,
        revision,
        tokenFile: options.tokenFile,
      });
      const answer = { owner, revision, at, size_bytes: packed.length, key_id: options.keyId };
      show(
        context,
        answer,
        () => `${owner}: revision ${revision} (${packed.length} bytes, ${algorithm}) is at ${at}`,
      );
      return exitCodes.ok;
    },
  });
}

/** Fault `config.unreadable`. */
function readKey(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new Fault("config.unreadable", { file, problem }, { cause });
  }
}

function fittingAlgorithm(pem: string, file: string): SigningAlgorithm {
  const unfit = (problem: string, cause?: unknown): Fault =>
    new Fault("config.unreadable", { file, problem }, { cause });
  let key: ReturnType<typeof createPrivateKey>;
  try {
    key = createPrivateKey(pem);
  } catch (cause) {
    throw unfit("it is no private key in PEM", cause);
  }
  const curves: Readonly<Record<string, SigningAlgorithm>> = {
    prime256v1: "ES256",
    secp384r1: "ES384",
    secp521r1: "ES512",
  };
  const fitting =
    key.asymmetricKeyType === "ed25519"
      ? "EdDSA"
      : key.asymmetricKeyType === "rsa"
        ? "RS256"
        : curves[key.asymmetricKeyDetails?.namedCurve ?? ""];
  if (fitting === undefined)
    throw unfit(`no algorithm fits a key of type ${key.asymmetricKeyType}`);
  return fitting;
}
