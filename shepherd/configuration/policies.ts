/**
 * The key `policies` of drover.yaml: whose policy is where, what a published bundle must be signed with, and how much a
 * new one may change. Knows the file only; bundles are fetched and checked by opa/.
 */
import {
  integer,
  list,
  named,
  object,
  oneOf,
  optional,
  type Reader,
  required,
  text,
} from "#configuration/yaml-reader";
import type { Ms } from "#model/units";
import { type SigningAlgorithm, signingAlgorithms } from "#opa/signatures";

/** A bundle that its owner publishes: signed by them, checked here, activated by somebody. */
export interface BundleConfiguration {
  /** A file, a directory with `bundle.tar.gz`, or an http(s) URL. */
  readonly source: string;
  /** Whose signature counts; PEM files of public keys. */
  readonly keys: readonly {
    readonly id: string;
    readonly algorithm: SigningAlgorithm;
    readonly file: string;
  }[];
  /** automatic: what is published and passes every check is in force at the next look. */
  readonly activation: "manual" | "automatic";
  readonly pollMs: Ms;
  /** Without a word of the source for so long, the policy denies. Absent: never. */
  readonly maxStaleMs?: Ms | undefined;
  /** Holds the bearer token that the URL wants. */
  readonly tokenFile?: string | undefined;
}

/** Where decisions and the state of bundles are told, in OPA's event shapes. */
export interface PolicyReportConfiguration {
  /** A line of JSON an event. */
  readonly file?: string | undefined;
  /** A collector: `/logs` and `/status` below it. */
  readonly url?: string | undefined;
  readonly tokenFile?: string | undefined;
}

/**
 * Folders of policy bundles: the operator's, and by name those of environment owners (`*`: of all others). A site names
 * its own. A folder that is not there denies; absent keys mean the bundles that ship with drover.
 */
export interface PoliciesConfiguration {
  readonly operator: string;
  readonly owners: Readonly<Record<string, string>>;
  /** By owner (`operator`, `site:north`, `owner:alice`, `owner:*`): stands in for the owner's folder. */
  readonly bundles?: Readonly<Record<string, BundleConfiguration>> | undefined;
  /** A new policy is asked about the last so many decisions of its owner (default 500) … */
  readonly replayLast?: number | undefined;
  /** … and more flips than that stop it (default 10). */
  readonly maxFlips?: number | undefined;
  readonly report?: PolicyReportConfiguration | undefined;
}

export function policiesReader(
  path: Reader<string>,
  shipped: (name: string) => string,
): { readonly read: Reader<PoliciesConfiguration>; readonly absent: PoliciesConfiguration } {
  const absent = { operator: shipped("operator"), owners: { "*": shipped("owner") } };
  const read = object({
    operator: optional(path, absent.operator),
    owners: optional(named(path), absent.owners),
    bundles: optional(named(bundleReader(path))),
    replay_last: optional(integer({ unit: "count", min: 0, max: 1_000_000 })),
    max_flips: optional(integer({ unit: "count", min: 0, max: 1_000_000 })),
    report: optional(
      object({ file: optional(path), url: optional(urlText), token_file: optional(path) }),
    ),
  });
  return {
    absent,
    read: (node, at) => {
      const { operator, owners, bundles, replay_last, max_flips, report } = read(node, at);
      return {
        operator,
        owners,
        ...(bundles === undefined ? {} : { bundles }),
        ...(replay_last === undefined ? {} : { replayLast: replay_last }),
        ...(max_flips === undefined ? {} : { maxFlips: max_flips }),
        ...(report === undefined
          ? {}
          : { report: { file: report.file, url: report.url, tokenFile: report.token_file } }),
      };
    },
  };
}

const urlText = text({ pattern: /^https?:\/\/[^\s]+$/, like: "an http(s) URL" });

function bundleReader(path: Reader<string>): Reader<BundleConfiguration> {
  const any = text();
  const read = object({
    source: required<string>((node, at) =>
      /^https?:/.test(any(node, at)) ? urlText(node, at) : path(node, at),
    ),
    keys: required(
      list(
        object({
          id: required(text()),
          algorithm: required(oneOf(...signingAlgorithms)),
          file: required(path),
        }),
        { min: 1 },
      ),
    ),
    activation: optional(oneOf("manual", "automatic"), "manual"),
    poll_ms: optional(integer({ unit: "ms", min: 1_000, max: 86_400_000 }), 30_000),
    max_stale_ms: optional(integer({ unit: "ms", min: 10_000, max: 31_536_000_000 })),
    token_file: optional(path),
  });
  return (node, at) => {
    const { source, keys, activation, poll_ms, max_stale_ms, token_file } = read(node, at);
    return {
      source,
      keys,
      activation,
      pollMs: poll_ms,
      maxStaleMs: max_stale_ms,
      tokenFile: token_file,
    };
  };
}
