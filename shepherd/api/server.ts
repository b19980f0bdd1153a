/**
 * The HTTP server: one Fastify application a listener (unix socket, TCP), which differ only in how a caller is known.
 * Errors become problem details here; routes are in api/routes, one file a noun.
 */
import { chmodSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { connect } from "node:net";
import { dirname } from "node:path";
import swagger from "@fastify/swagger";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import Fastify, { type FastifyInstance, type FastifyRequest } from "fastify";
import { type Access, checkRole, localRoot, type Principal } from "#api/access";
import { confinedStore, readAs } from "#api/confined";
import { type Keys, keysOf, withKeys } from "#api/keyed-calls";
import { createMetrics } from "#api/metrics";
import { problemOf, Refused } from "#api/problems";
import { approvalRoutes } from "#api/routes/approvals";
import { consentRoutes } from "#api/routes/consents";
import { consoleRoutes } from "#api/routes/consoles";
import { constraintRoutes } from "#api/routes/constraints";
import { decisionRoutes } from "#api/routes/decisions";
import { doorRoutes } from "#api/routes/doors";
import { environmentRoutes } from "#api/routes/environments";
import { eventRoutes } from "#api/routes/events";
import { forecastRoutes } from "#api/routes/forecasts";
import { foreignRoutes } from "#api/routes/foreign-machines";
import { groupRoutes } from "#api/routes/groups";
import { guestDoorRoutes } from "#api/routes/guest-door";
import { holdRoutes } from "#api/routes/holds";
import { hostMarkRoutes } from "#api/routes/host-marks";
import { hostRegistrationRoutes } from "#api/routes/host-registrations";
import { imageRoutes } from "#api/routes/images";
import { linkRoutes } from "#api/routes/links";
import { machineRoutes } from "#api/routes/machines";
import { networkRoutes, tunnelRoutes } from "#api/routes/networks";
import { obligationRoutes } from "#api/routes/obligations";
import { operationRoutes } from "#api/routes/operations";
import { planCheckRoutes } from "#api/routes/plan-checks";
import { policyRoutes } from "#api/routes/policies";
import { policySchemaRoutes } from "#api/routes/policy-schemas";
import { questionRoutes } from "#api/routes/questions";
import { requestRoutes } from "#api/routes/requests";
import { siteRegistrationRoutes } from "#api/routes/site-registrations";
import { statusRoutes } from "#api/routes/status";
import { tokenRoutes } from "#api/routes/tokens";
import { volumeRoutes } from "#api/routes/volumes";
import { summaries } from "#api/summaries";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import type { Subject } from "#model/request";
import { type ServerSpan, serverSpan } from "#ports/tracing";

declare module "fastify" {
  interface FastifyRequest {
    principal: Principal;
  }
  interface FastifyContextConfig {
    /** What a caller must be allowed to do; every route says it. */
    access?: Access;
    /** What an idempotency key does there; absent: `kept`. */
    keys?: Keys;
  }
}

/** A declaration of a whole machine is a few kilobytes; files go through blobs. */
const bodyLimitBytes = 64 * 1024;
/** For a whole request with its body: an image over a slow line. A caller is known before its body is read. */
const requestTimeoutMs = 6 * 3_600_000;

/** Told by /openapi.json wherever a key means something. */
const KeyHeader = {
  type: "object",
  properties: { "idempotency-key": { type: "string" } },
} as const;

const limits = { requestTimeout: requestTimeoutMs };

export type Api = ReturnType<typeof createApi>;
/** Registers on this get typed bodies. */
export type ApiRouter = Pick<
  Api,
  "get" | "put" | "post" | "patch" | "delete" | "head" | "route" | "addHook"
>;
export type Authenticate = (request: FastifyRequest) => Principal;

/** Who may open the socket is the local root, unless they say by a token that they are somebody else. */
export function bySocket(tokens: { find(token: string): Principal }): Authenticate {
  const named = byToken(tokens);
  return (request) => (request.headers.authorization === undefined ? localRoot : named(request));
}

/** Fault `access.token_missing` or `access.token_unknown`. */
export function byToken(tokens: { find(token: string): Principal }): Authenticate {
  return (request) => {
    const [scheme, token] = (request.headers.authorization ?? "").split(" ");
    if (scheme?.toLowerCase() !== "bearer" || token === undefined || token === "") {
      throw new Fault("access.token_missing");
    }
    return tokens.find(token);
  };
}

/** The principal as a reader of decisions; null before authentication. */
function readerOf(principal: Principal | null): Pick<Subject, "type" | "roles"> {
  return { type: "stack", roles: principal === null ? [] : [principal.role] };
}

export function createApi(
  given: ApiWorld,
  authenticate: Authenticate,
  tls?: { readonly cert: string; readonly key: string },
) {
  const world: ApiWorld = { ...given, store: confinedStore(given.store) };
  const app = Fastify({
    // Fastify's types split by server kind; to a route they are the same.
    serverFactory: (handler) =>
      tls === undefined
        ? createServer(limits, handler)
        : // a TLS server is a server to Fastify; Node types the two apart
          (createTlsServer({ ...tls, ...limits }, handler) as unknown as Server),
    logger: false,
    bodyLimit: bodyLimitBytes,
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 256 },
    // Coercion would let "4" pass for 4, and removal would drop a mistyped field without a word.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, allErrors: false } },
  }).withTypeProvider<TypeBoxTypeProvider>();

  app.decorateRequest("principal", null as unknown as Principal); // set before any handler runs
  app.addHook("onRequest", async (request) => {
    const { access } = request.routeOptions.config;
    if (access === "open") return;
    request.principal = authenticate(request);
    if (access === undefined) return;
    const environment = (request.params as { readonly environment?: string }).environment;
    const [, , kind = ""] = (request.routeOptions.url ?? "").split("/");
    await checkRole(given.engines.get("operator"), request.principal, {
      access,
      object: { kind, ...(environment === undefined ? {} : { environment }) },
    });
  });
  // Whatever a reading route looks up is looked up as its caller may see it.
  app.addHook("preHandler", (request, _reply, done) => {
    const reads = request.method === "GET" || request.method === "HEAD";
    if (reads && request.principal !== null) readAs(request.principal, done);
    else done();
  });
  app.setErrorHandler(async (error, request, reply) => {
    const problem = problemOf(error, readerOf(request.principal));
    if (problem.status >= 500 && !(error instanceof Refused)) {
      world.log.error({ err: error, method: request.method, url: request.url }, "call failed");
    }
    return await reply
      .code(problem.status)
      .type("application/problem+json")
      .send(JSON.stringify(problem));
  });
  app.setNotFoundHandler(async (request) => {
    throw new Fault("request.not_found", {
      method: request.method,
      path: request.url.split("?")[0],
    });
  });
  // Views are built whole and typed; serialising by schema could only drop a field by mistake.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  app.addContentTypeParser("application/octet-stream", (_request, payload, done) => {
    done(null, payload); // streamed by the route that wants it
  });

  followCalls(app);
  const metrics = createMetrics(world);
  app.addHook("onResponse", async (request, reply) => {
    metrics.observeCall({
      method: request.method,
      route: request.routeOptions.url ?? "none",
      status: reply.statusCode,
      durationMs: reply.elapsedTime,
    });
  });
  app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: { title: "Drover's shepherd", version: world.version },
      components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
    },
  });
  app.register(async (routes) => {
    routes.addHook("onRoute", (route) => {
      const summary = summaries[`${String(route.method)} ${route.url}`];
      const { access } = route.config ?? {};
      const keys = keysOf(route);
      route.handler = withKeys(route, world.calls);
      route.schema = {
        ...(keys === undefined || keys === "none" ? {} : { headers: KeyHeader }),
        ...route.schema,
        ...(summary === undefined ? {} : { summary }),
        ...(access === undefined ? {} : { description: `Needs the right to ${access}.` }),
      };
    });
    const router = routes.withTypeProvider<TypeBoxTypeProvider>();
    statusRoutes(router, world);
    environmentRoutes(router, world);
    networkRoutes(router, world);
    tunnelRoutes(router, world);
    doorRoutes(router, world);
    machineRoutes(router, world);
    linkRoutes(router, world);
    groupRoutes(router, world);
    volumeRoutes(router, world);
    constraintRoutes(router, world);
    consoleRoutes(router, world);
    guestDoorRoutes(router, world);
    planCheckRoutes(router, world);
    forecastRoutes(router, world);
    foreignRoutes(router, world);
    imageRoutes(router, world);
    requestRoutes(router, world);
    approvalRoutes(router, world);
    obligationRoutes(router, world);
    consentRoutes(router, world);
    questionRoutes(router, world);
    decisionRoutes(router, world);
    operationRoutes(router, world);
    eventRoutes(router, world);
    holdRoutes(router, world);
    policyRoutes(router, world);
    policySchemaRoutes(router);
    hostMarkRoutes(router, world);
    siteRegistrationRoutes(router, world);
    hostRegistrationRoutes(router, world);
    tokenRoutes(router, world);
    router.get("/metrics", { config: { access: "read" } }, async (_request, reply) =>
      reply.type("text/plain; version=0.0.4").send(await metrics.text()),
    );
    router.get("/openapi.json", { config: { access: "open" } }, async () => app.swagger());
  });
  return app;
}

/**
 * A span for each call that may change something, and for any whose client sends its own trace. Reads are not: a console
 * and a provider ask every second. Handlers run within it from `preHandler` on, because reading a body leaves it.
 */
function followCalls(app: Pick<FastifyInstance, "addHook">): void {
  const spans = new WeakMap<FastifyRequest, ServerSpan>();
  app.addHook("onRequest", async (request) => {
    const { traceparent } = request.headers;
    const header = typeof traceparent === "string" ? traceparent : undefined;
    if (header === undefined && (request.method === "GET" || request.method === "HEAD")) return;
    const route = request.routeOptions.url ?? "none";
    spans.set(request, serverSpan(`${request.method} ${route}`, header));
  });
  app.addHook("preHandler", (request, _reply, done) => {
    const span = spans.get(request);
    if (span === undefined) {
      done();
      return;
    }
    span.tell({ asker: request.principal?.role });
    span.within(done);
  });
  app.addHook("onResponse", async (request, reply) => spans.get(request)?.end(reply.statusCode));
}

/** Listens on a unix socket that only its owner can open. A socket that nobody answers on is a dead predecessor's. */
export async function listenOnSocket(app: Api, path: string): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  if (existsSync(path)) {
    if (await answers(path)) throw new Fault("socket.in_use", { socket: path });
    rmSync(path);
  }
  // The mode must hold from the first moment, not from a later chmod on.
  const before = process.umask(0o177);
  try {
    await app.listen({ path });
  } finally {
    process.umask(before);
  }
  chmodSync(path, 0o600);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
