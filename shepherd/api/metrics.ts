/** Numbers for Prometheus: calls of the API, and gauges read from the journal when somebody looks. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { ApiWorld } from "#api/world";

const callBucketsS = [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10];

export function createMetrics(world: Pick<ApiWorld, "store" | "sensing">) {
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
      for (const { effective } of machines) this.inc({ state: effective.state });
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
  return {
    observeCall(call: { method: string; route: string; status: number; durationMs: number }) {
      const status = String(call.status);
      calls.observe({ method: call.method, route: call.route, status }, call.durationMs / 1000);
      if (call.status >= 400) refused.inc({ status });
    },
    text: () => registry.metrics(),
  };
}
