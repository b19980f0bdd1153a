/**
 * What the answers of one provider process share: its catalogue, its configuration, the connection that is made of it at
 * first use, the interrupt, and how a failure becomes diagnostics. Knows no call.
 */
import { randomUUID } from "node:crypto";
import { type Connection, connect, type ProviderConfig } from "#configuration";
import type { Environment } from "#plugin/handshake";
import type { Log } from "#plugin/log";
import { DecodeError } from "#plugin/protobuf";
import { deferralReasons } from "#protocol/capability";
import { toDiagnostics } from "#protocol/diagnostic";
import { type DynamicValue, fromDynamicValue, toDynamicValue } from "#protocol/dynamic-value";
import type { ActionType } from "#schema/action";
import { type Attributes, objectType } from "#schema/attribute";
import type { EphemeralType } from "#schema/ephemeral";
import type { FunctionType } from "#schema/function";
import type { ListType } from "#schema/list";
import { Report } from "#schema/report";
import type { DataSourceType, PrivateData, ResourceType, Work } from "#schema/resource";
import { TimeoutReached, timeoutMs, type Verb } from "#schema/timeouts";
import { isObject, isWhollyKnown, type ObjectValue } from "#schema/value";
import { withoutWriteOnly } from "#schema/write-only";

/** Everything a user can write with the provider. */
export interface Catalogue {
  readonly resources: readonly ResourceType[];
  readonly dataSources: readonly DataSourceType[];
  readonly functions: readonly FunctionType[];
  readonly ephemerals: readonly EphemeralType[];
  readonly actions: readonly ActionType[];
  readonly lists: readonly ListType[];
}

export interface SessionOptions {
  readonly catalogue: Catalogue;
  readonly log: Log;
  /** Where DROVER_ENDPOINT and the like are looked up. */
  readonly environment: Environment;
}

/** A verb whose time may be limited by `timeouts`. */
interface Limited {
  readonly attributes: Attributes;
  readonly values: ObjectValue;
  readonly verb: Verb;
}

export class Session {
  readonly catalogue: Catalogue;
  readonly log: Log;
  private readonly environment: Environment;
  private readonly stop = new AbortController();
  private readonly runId = randomUUID();
  private config: ProviderConfig = { endpoint: null, token: null, ca_file: null };
  private toolVersion = "";
  private connection: Connection | undefined;

  constructor(options: SessionOptions) {
    this.catalogue = options.catalogue;
    this.log = options.log;
    this.environment = options.environment;
  }

  /** Connects nothing: a plan with an unknown endpoint and nothing to read goes through. */
  configure(config: ProviderConfig, toolVersion: string): void {
    this.config = config;
    this.toolVersion = toolVersion;
    this.connection = undefined;
  }

  interrupt(): void {
    this.stop.abort(new Error("interrupted"));
  }

  /** What the provider block says is not known before apply. */
  get configUnknown(): boolean {
    // a configuration is an object of wire values; its named type has no index signature
    return !isWhollyKnown(this.config as unknown as ObjectValue);
  }

  /** What a verb works with; undefined after it was reported why there is no shepherd to ask. */
  work(report: Report, signal = this.stop.signal): Work | undefined {
    const { environment, toolVersion } = this;
    this.connection ??= connect(this.config, { environment, toolVersion, report });
    return (
      this.connection && {
        ...this.connection,
        report,
        signal,
        runId: this.runId,
        log: (message, fields) => this.log("info", message, fields),
      }
    );
  }

  /** Runs the body with a signal that also ends with the verb's `timeouts`. */
  async within<T>(limited: Limited, body: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { attributes, values, verb } = limited;
    const limitMs = timeoutMs(attributes, values, verb);
    if (limitMs === undefined) return await body(this.stop.signal);
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(new TimeoutReached(verb, limitMs)), limitMs);
    try {
      return await body(AbortSignal.any([this.stop.signal, limit.signal]));
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Runs the body with a fresh report; what it throws is reported too, and answered with `otherwise`: for calls where an
   * empty answer would make Terraform forget an object.
   */
  async reporting<Answer extends object>(
    call: string,
    body: (report: Report) => Promise<Answer>,
    otherwise: Partial<Answer> = {},
  ) {
    const report = new Report();
    let answer = otherwise;
    try {
      answer = await body(report);
    } catch (error) {
      reportThrown(report, call, error);
    }
    return { ...answer, diagnostics: toDiagnostics(report.diagnostics) };
  }

  resource(name: string): ResourceType {
    return named(this.catalogue.resources, name, "resource");
  }
  dataSource(name: string): DataSourceType {
    return named(this.catalogue.dataSources, name, "data source");
  }
  ephemeral(name: string): EphemeralType {
    return named(this.catalogue.ephemerals, name, "ephemeral resource");
  }
  action(name: string): ActionType {
    return named(this.catalogue.actions, name, "action");
  }
  list(name: string): ListType {
    return named(this.catalogue.lists, name, "list resource");
  }
}

/** What a handler threw, as a diagnostic: one bug does not take the whole run down. */
export function reportThrown(report: Report, call: string, error: unknown): void {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  if (error instanceof DecodeError)
    report.error("A value could not be read", `${error.message} (in ${call}).`);
  else
    report.error(
      "The drover provider failed",
      `An unexpected error in ${call}; this is a bug in the provider, please report it with this text.\n${message}`,
    );
}

function named<T extends { readonly name: string }>(
  types: readonly T[],
  name: string,
  noun: string,
): T {
  const found = types.find((type) => type.name === name);
  if (found === undefined) throw new DecodeError(`this provider has no ${noun} ${name}`);
  return found;
}

interface Capabilities {
  readonly client_capabilities: { readonly deferral_allowed: boolean } | undefined;
}

/** The answer "not yet", which only some clients take; undefined where the work has to be tried. */
export function deferral(session: Session, request: Capabilities) {
  return session.configUnknown && request.client_capabilities?.deferral_allowed === true
    ? { reason: deferralReasons.providerConfigUnknown }
    : undefined;
}

/** A configuration or state; a null one (an empty provider block) has every attribute null. */
export function decodeObject(declared: Attributes, value: DynamicValue | undefined): ObjectValue {
  const decoded = fromDynamicValue(objectType(declared), value);
  return isObject(decoded)
    ? decoded
    : Object.fromEntries(Object.keys(declared).map((name) => [name, null]));
}

/** A state or a plan, without what is never stored. */
export function encodeState(declared: Attributes, state: object | null) {
  const values = state === null ? null : withoutWriteOnly(declared, state as ObjectValue);
  return toDynamicValue(objectType(declared), values, neverNullOf(declared));
}

function neverNullOf(declared: Attributes): ReadonlySet<string> {
  const names = Object.entries(declared).filter(([, { neverNull }]) => neverNull === true);
  return new Set(names.map(([name]) => name));
}

export function readPrivate(bytes: Uint8Array | undefined): PrivateData {
  if (bytes === undefined || bytes.length === 0) return {};
  try {
    const data: unknown = JSON.parse(Buffer.from(bytes).toString());
    return typeof data === "object" && data !== null ? (data as PrivateData) : {};
  } catch (cause) {
    throw new DecodeError("private state that is not ours", { cause });
  }
}

export function writePrivate(data: PrivateData): Uint8Array {
  return Object.keys(data).length === 0 ? new Uint8Array(0) : Buffer.from(JSON.stringify(data));
}
