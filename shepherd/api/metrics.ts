/** Numbers for Prometheus: calls of the API, and gauges read from the journal when somebody looks. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { ApiWorld } from "#api/world";
import { isActive } from "#policy/hold";

const callBucketsS = [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10];

type MetricsWorld = Pick<ApiWorld, "store" | "sensing" | "clock" | "hostCare">;

export function createMetrics(world: MetricsWorld) {
  const registry = new Registry();
  const calls = new Histogram({
    name: "drover_api_call_seconds",
    help: "Duration of calls by route and status",
    labelNames: ["method", "route", "status"] as const,
    buckets: callBucketsS,
    registers: [registry],
  });
  const refused = new Counter({
    name: "drover_api_refused_total",
    help: "Calls answered with 4xx or 5xx",
    labelNames: ["status"] as const,
    registers: [registry],
  });
  new Gauge({
    name: "drover_machines",
    help: "Machines by state",
    labelNames: ["state"] as const,
    registers: [registry],
    async collect() {
      this.reset();
      const machines = await world.store.read((journal) => journal.objects.list("machine"));
      // counted first: a labelled increment costs more than reading the record
      const counts = new Map<string, number>();
      for (const { effective } of machines) {
        counts.set(effective.state, (counts.get(effective.state) ?? 0) + 1);
      }
      for (const [state, count] of counts) this.set({ state }, count);
    },
  });
  new Gauge({
    name: "drover_operations_active",
    help: "Operations that have not ended, by state",
    labelNames: ["state"] as const,
    registers: [registry],
    async collect() {
      this.reset();
      const operations = await world.store.read((journal) =>
        journal.operations.list({ states: ["pending", "running", "undoing", "stuck"] }),
      );
      for (const { state } of operations) this.inc({ state });
    },
  });
  new Gauge({
    name: "drover_host_up",
    help: "1 when the host answers, 0 when it is degraded",
    labelNames: ["site", "host"] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const site of world.sensing.sites()) {
        for (const host of site.hosts) {
          this.set({ site: site.id, host: host.id }, host.state === "up" ? 1 : 0);
        }
      }
    },
  });
  new Gauge({
    name: "drover_events_last_seq",
    help: "Sequence of the newest event",
    registers: [registry],
    async collect() {
      this.set(await world.store.read((journal) => journal.events.last()));
    },
  });
  addOperations(world, registry);
  addHosts(world, registry);
  addStanding(world, registry);
  collectDefaultMetrics({ register: registry, prefix: "drover_" });
  return {
    observeCall(call: { method: string; route: string; status: number; durationMs: number }) {
      const status = String(call.status);
      calls.observe({ method: call.method, route: call.route, status }, call.durationMs / 1000);
      if (call.status >= 400) refused.inc({ status });
    },
    text: () => registry.metrics(),
  };
}

const unfinished = ["pending", "running", "undoing"] as const;
const operationBucketsS = [0.05, 0.2, 1, 5, 20, 60, 300, 1_800, 7_200];
const pageSize = 500;

/** How operations ended, read from the feed; and how long the oldest has been at it. */
function addOperations({ store, clock }: MetricsWorld, registry: Registry): void {
  const took = new Histogram({
    name: "drover_operation_seconds",
    help: "Duration of operations from admission to end, by kind and end",
    labelNames: ["kind", "state"] as const,
    buckets: operationBucketsS,
    registers: [registry],
  });
  const faults = new Counter({
    name: "drover_step_faults_total",
    help: "Steps that failed, by code",
    labelNames: ["code"] as const,
    registers: [registry],
  });
  const decisions = new Counter({
    name: "drover_decisions_total",
    help: "Decisions by effect and code",
    labelNames: ["effect", "code"] as const,
    registers: [registry],
  });
  let seen: number | undefined;
  let reading: Promise<void> = Promise.resolve();
  const read = async () => {
    // What was before this process is in the journal, not in its counters.
    seen ??= await store.read((journal) => journal.events.last());
    for (;;) {
      const from: number = seen;
      const events = await store.read((journal) => journal.events.since(from, pageSize));
      for (const { kind, data } of events) {
        const fault = data["fault"] as { code?: string } | undefined;
        if (kind === "operation.ended") {
          const { durationMs = 0 } = (data["measured"] ?? {}) as { durationMs?: number };
          took.observe(
            { kind: String(data["kind"]), state: String(data["state"]) },
            durationMs / 1000,
          );
        } else if (kind === "step.ended" && fault?.code !== undefined) {
          faults.inc({ code: fault.code });
        } else if (kind === "decision.made") {
          decisions.inc({ effect: String(data["effect"]), code: String(data["code"]) });
        }
      }
      seen = events.at(-1)?.seq ?? seen;
      if (events.length < pageSize) return;
    }
  };
  new Gauge({
    name: "drover_operation_oldest_seconds",
    help: "Age of the oldest operation that has not ended; 0 without one",
    registers: [registry],
    async collect() {
      // One after the other: two scrapes at once would count an event twice.
      reading = reading.then(read, read);
      await reading;
      const open = await store.read((journal) => journal.operations.list({ states: unfinished }));
      const first = Math.min(...open.map(({ createdAtMs }) => createdAtMs));
      this.set(open.length === 0 ? 0 : (clock.nowMs() - first) / 1000);
    },
  });
}

/** What hosts say and hold, and what people say of them. */
function addHosts({ sensing, clock, hostCare }: MetricsWorld, registry: Registry): void {
  const hosts = () => sensing.sites().flatMap((site) => site.hosts);
  new Gauge({
    name: "drover_host_silent_seconds",
    help: "Since the host last answered",
    labelNames: ["site", "host"] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const { siteId, id, observedAtMs, state } of hosts()) {
        const ageMs = state === "up" ? 0 : clock.nowMs() - observedAtMs;
        this.set({ site: siteId, host: id }, ageMs / 1000);
      }
    },
  });
  new Gauge({
    name: "drover_host_facts_age_seconds",
    help: "Since the host said what decisions rest on",
    labelNames: ["site", "host"] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const { siteId, id, observedAtMs } of hosts())
        this.set({ site: siteId, host: id }, (clock.nowMs() - observedAtMs) / 1000);
    },
  });
  new Gauge({
    name: "drover_host_facts_stale",
    help: "1 when what is known of the host is too old to decide on; a host that was confirmed dead is not counted",
    labelNames: ["site", "host"] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const { siteId, id, observedAtMs, mark } of hosts()) {
        const isStale = mark !== "dead" && clock.nowMs() - observedAtMs > sensing.maxAgeMs;
        this.set({ site: siteId, host: id }, isStale ? 1 : 0);
      }
    },
  });
  if (hostCare === undefined) return;
  const { marks, drains, janitor } = hostCare;
  new Gauge({
    name: "drover_host_marked",
    help: "1 for a host that people drain or confirmed dead",
    labelNames: ["host", "mark"] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const { hostId, kind } of marks.list()) this.set({ host: hostId, mark: kind }, 1);
    },
  });
  new Gauge({
    name: "drover_dead_host_answers",
    help: "1 for a host that was confirmed dead and answers",
    labelNames: ["host"] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const { hostId, kind } of marks.list()) {
        if (kind === "dead") this.set({ host: hostId }, sensing.answers(hostId) ? 1 : 0);
      }
    },
  });
  new Gauge({
    name: "drover_drain_machines",
    help: "Machines still on a draining host: blocked ones, and all",
    labelNames: ["host", "what"] as const,
    registers: [registry],
    async collect() {
      this.reset();
      for (const { hostId, kind } of marks.list()) {
        const progress = kind === "draining" ? await drains.progress(hostId) : undefined;
        if (progress === undefined) continue;
        this.set({ host: hostId, what: "left" }, progress.machines);
        this.set({ host: hostId, what: "blocked" }, progress.blockers.length);
      }
    },
  });
  new Gauge({
    name: "drover_differences",
    help: "Differences between hosts and journal at the last sweep, by class",
    labelNames: ["host", "class"] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const one of janitor.differences()) this.inc({ host: one.hostId, class: one.class });
    },
  });
}

/** What stands until it ends, and should not for ever. */
function addStanding({ store, clock }: MetricsWorld, registry: Registry): void {
  new Gauge({
    name: "drover_hold_age_seconds",
    help: "Age of the oldest hold; 0 without one",
    registers: [registry],
    async collect() {
      const nowMs = clock.nowMs();
      const holds = (await store.read((journal) => journal.holds.list())).filter((hold) =>
        isActive(hold, nowMs),
      );
      const first = Math.min(...holds.map(({ sinceMs }) => sinceMs));
      this.set(holds.length === 0 ? 0 : (nowMs - first) / 1000);
    },
  });
  new Gauge({
    name: "drover_recalls_overdue",
    help: "Recalled machines whose site's deadline is over and that are still there",
    registers: [registry],
    async collect() {
      const recalls = await store.read((journal) => journal.recalls.list());
      this.set(recalls.filter(({ overdueSinceMs }) => overdueSinceMs !== undefined).length);
    },
  });
  new Gauge({
    name: "drover_approvals_pending",
    help: "Requests that wait for a named person",
    registers: [registry],
    async collect() {
      const waiting = await store.read((journal) =>
        journal.approvals.list({ states: ["pending"] }),
      );
      this.set(waiting.length);
    },
  });
  new Gauge({
    name: "drover_lease_overdue_seconds",
    help: "How long the most overdue lease has been over without being given back; 0 without one",
    registers: [registry],
    async collect() {
      const nowMs = clock.nowMs();
      const adaptations = await store.read((journal) => journal.adaptations.list());
      const ends = adaptations.map(({ leaseUntilMs }) => leaseUntilMs ?? nowMs);
      this.set(Math.max(0, ...ends.map((endMs) => (nowMs - endMs) / 1000)));
    },
  });
}
