/**
 * Two machines on a lab of real hosts, shepherds that come and go, and the blows that fall on processes and wires. After
 * each it judges from outside (every host's own list of domains, volumes and networks) and from inside: a checker in the
 * guest writes numbered lines to its disk and remembers which were acknowledged.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { type GuestShell, openGuest } from "@drover/shepherd/lab/guest-shell";
import { insideHost } from "@drover/shepherd/lab/host";
import { adoptProcess, down, type Lab, openLab, up } from "@drover/shepherd/lab/lab";
import { hostsOf } from "@drover/shepherd/lab/layout";
import { identify, isAlive, must, startDaemon } from "@drover/shepherd/lab/process";
import { inNamespace } from "@drover/shepherd/lab/wires";
import { Fault } from "@drover/shepherd/model/fault";
import type { MachineRecord } from "@drover/shepherd/model/objects";
import type { Operation, OperationKind, PlanAction } from "@drover/shepherd/model/plan";
import type { HostRecord } from "@drover/shepherd/model/site";
import type { HostClaim } from "@drover/shepherd/ports/claim";
import type { Store } from "@drover/shepherd/ports/store";
import { createMortalStore } from "@drover/shepherd/simulated/crash";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { systemClock as clock, createIds } from "@drover/shepherd/system";
import { connectLibvirt } from "@drover/shepherd/worlds/libvirt";
import { pino } from "pino";
import { admitOrder, cost } from "../../shepherd/operations/order.ts";
import { declareRank, declareRing, operationsOn } from "../ring-records.ts";
import { problemsOf } from "../soundness.ts";
import type { Blow, Case, Victim } from "./cases.ts";
import { type Inside, insideGuest, startChecker, wrongSince } from "./checker.ts";

const labName = "chaos";
const diskBytes = 128 * 2 ** 20;
/** The pool's folder as a host sees it, and what it holds at most in this suite: a few images and layers. */
const poolPath = "/var/lib/libvirt/images";
const poolSize = "700M";
const ids = createIds(clock);
const log = pino({ level: process.env["LOG"] ?? "silent" });
const sizing = { vcpus: 1, cpuPercent: 90, memoryMib: 192 };
/** A case is over by then, or it has failed: longer than every keepalive and retry on the way. */
const patienceMs = 300_000;

/** How it ended, and the seconds that each part took: ready, met its step, struck and healed, ended, judged. */
export interface Played {
  readonly operation: Operation;
  readonly parts: readonly (readonly [string, number])[];
}

export interface Stage {
  readonly lab: Lab;
  /** Plays one case from a sound state to a sound state; throws when anything that was promised does not hold. */
  play(one: Case): Promise<Played>;
  /** Makes sure that the machine runs, with its checker. */
  stand(): Promise<void>;
  /** What hosts and guest say now; empty when all is as promised. */
  problems(): Promise<readonly string[]>;
  connect(claim?: HostClaim): ReturnType<typeof connectLibvirt>;
  /** Host of the machine that is played with. */
  hostId(): Promise<string>;
  readonly machineId: string;
  /** argv prefix of a command that sees what the host sees. */
  inside(hostId: string): readonly string[];
  end(): Promise<void>;
}

export async function raiseStage(): Promise<Stage> {
  const lab = await up({ name: labName });
  await limitPools(lab);
  const text = readFileSync(lab.configurationFile, "utf8");
  const configuration = readConfiguration(text, lab.configurationFile);
  const fleet: readonly HostRecord[] = configuration.sites.flatMap((site) => site.hosts);
  const store = openSqliteStore(":memory:");
  const [environmentId, networkId, imageId] = [ids.next(), ids.next(), ids.next()];
  let machineId = ids.next();
  await declareRing(store, {
    environmentId,
    networkId,
    imageId,
    imageDirectory: lab.imageDirectory,
    diskBytes,
    nowMs: clock.nowMs(),
  });
  const guest: GuestShell = openGuest(lab.layout, "drover-ring-rank-0");

  const connect = (claim?: HostClaim) => connectLibvirt(configuration, { clock, log, claim });
  const siteOf = (hostId: string) => fleet.find((host) => host.id === hostId)?.siteId ?? "";

  /** A shepherd's operations on connections of its own; `die` takes both away at once. */
  function shepherd() {
    const world = connect();
    const closed = Promise.withResolvers<void>();
    const onDeath = () => void world.close().then(closed.resolve, closed.resolve);
    const mortal = createMortalStore(store, { onDeath });
    const operations = operationsOn(world, { store: mortal, ids, fleet, epoch: store.epoch, log });
    return {
      operations,
      hosts: world.hosts,
      store: mortal as Store,
      async die() {
        mortal.die();
        await closed.promise;
      },
      async end() {
        await operations.stop();
        await world.close();
      },
    };
  }

  async function machine(): Promise<MachineRecord | undefined> {
    return store.read((journal) => journal.objects.get("machine", machineId));
  }
  async function hostId(): Promise<string> {
    return (await machine())?.effective.hostId ?? "";
  }

  async function perform(kind: OperationKind, actions: readonly PlanAction[]): Promise<Operation> {
    const running = shepherd();
    try {
      const { id } = await admitOrder({ ...running, clock, ids }, { kind, environmentId, actions });
      running.operations.kick();
      return await running.operations.wait(id, patienceMs);
    } finally {
      await running.end();
    }
  }

  /** The machine as a case wants to find it. */
  async function prepare({ operation }: Pick<Case, "operation">): Promise<void> {
    const here = await machine();
    if (operation === "create") {
      if (here !== undefined && here.effective.hostId !== "") await destroy();
      if ((await machine()) === undefined) await declareMachine();
      return;
    }
    if (here === undefined) await declareMachine();
    if ((await hostId()) === "") {
      const made = await perform("create", [create("north-1")]);
      if (made.state !== "succeeded") throw new Error(`not created: ${JSON.stringify(made.fault)}`);
    }
    await startChecker(guest);
  }

  const create = (host: string): PlanAction => ({
    kind: "create_machine",
    machineId,
    hostId: host,
    siteId: siteOf(host),
    sizing,
    cost,
  });
  const destroy = async () =>
    perform("destroy", [{ kind: "destroy_machine", machineId, hostId: await hostId(), cost }]);

  async function actionsOf({ operation }: Case): Promise<readonly PlanAction[]> {
    const from = await hostId();
    switch (operation) {
      case "create":
        return [create("north-1")];
      case "destroy":
        return [{ kind: "destroy_machine", machineId, hostId: from, cost }];
      case "resize": {
        const { memoryMib, cpuPercent } = (await machine())?.effective ?? sizing;
        return [
          {
            kind: "set_memory",
            machineId,
            fromMib: memoryMib,
            toMib: memoryMib === 192 ? 208 : 192,
            cost,
          },
          {
            kind: "set_cpu_percent",
            machineId,
            from: cpuPercent,
            to: cpuPercent === 90 ? 85 : 90,
            cost,
          },
        ];
      }
      case "move": {
        const to = from === "north-1" ? "north-2" : "north-1";
        return [
          {
            kind: "move_machine",
            machineId,
            fromHostId: from,
            fromSiteId: siteOf(from),
            toHostId: to,
            toSiteId: siteOf(to),
            cost,
          },
        ];
      }
    }
  }

  async function play(one: Case): Promise<Played> {
    const parts: [string, number][] = [];
    let lastMs = clock.nowMs();
    const over = (part: string) => {
      parts.push([part, (clock.nowMs() - lastMs) / 1_000]);
      lastMs = clock.nowMs();
    };
    await prepare(one);
    const before = one.operation === "create" ? undefined : await insideGuest(guest);
    over("ready");
    const actions = await actionsOf(one);
    const [action] = actions;
    const places: Record<Victim, string> = {
      source:
        action !== undefined && "fromHostId" in action
          ? action.fromHostId
          : (await hostId()) || "north-1",
      destination:
        action !== undefined && "toHostId" in action
          ? action.toHostId
          : (await hostId()) || "north-1",
    };
    const kinds = { create: "create", resize: "adapt", move: "adapt", destroy: "destroy" } as const;
    let running = shepherd();
    const { id } = await admitOrder(
      { ...running, clock, ids },
      { kind: kinds[one.operation], environmentId, actions },
    );
    const due = whenDue(id, one);
    running.operations.kick();
    const struck = (await due) === "due";
    over("due");
    if (struck) {
      if (one.blow.kind === "shepherd") {
        await running.die();
        running = shepherd();
        await running.operations.recover();
      } else {
        const heal = await strike(one.blow, places[one.blow.at]);
        // A full disk does not empty itself: it stays so to the end.
        if (one.blow.kind === "disk") await running.operations.wait(id, patienceMs);
        else await clock.sleep(one.forMs);
        await heal();
        await noticeThatItIsBack(running, places[one.blow.at]);
      }
      over("blow");
    }
    const ended = await running.operations.wait(id, patienceMs);
    await running.end();
    over("end");
    if (!struck) throw new Error(`the step "${one.step}" was never met; ${ended.state}`);
    await judge(one, ended, before);
    over("judged");
    return { operation: ended, parts };
  }

  /** As sensing does for a whole shepherd: operations hear of a host that answers again, and wait no longer. */
  async function noticeThatItIsBack(
    { operations, hosts }: ReturnType<typeof shepherd>,
    at: string,
  ): Promise<void> {
    for (const untilMs = clock.nowMs() + patienceMs; ; ) {
      try {
        await hosts.get(at).listDomains();
        break;
      } catch (error) {
        if (!(error instanceof Fault) || clock.nowMs() > untilMs) throw error;
        await clock.sleep(100);
      }
    }
    operations.kick();
  }

  /** "due" when the step is under way (and its progress says so); "ended" when the operation was quicker. */
  async function whenDue(operationId: string, one: Case): Promise<"due" | "ended"> {
    for (;;) {
      const { steps, operation } = await store.read(async (journal) => ({
        steps: await journal.steps.ofOperation(operationId),
        operation: await journal.operations.get(operationId),
      }));
      const met = steps.find(({ name }) => name.includes(one.step));
      if (met !== undefined && met.state !== "pending") {
        const message = operation?.progress.message ?? "";
        if (one.during === undefined || message.includes(one.during)) return "due";
      }
      if (operation?.endedAtMs !== undefined) return "ended";
      await clock.sleep(5);
    }
  }

  async function judge(one: Case, ended: Operation, before: Inside | undefined): Promise<void> {
    const killed = one.blow.kind === "qemu" && one.blow.how === "kill" && one.blow.at === "source";
    const wrong: string[] = [];
    if (ended.endedAtMs === undefined) wrong.push(`it has not ended: ${ended.progress.message}`);
    if (ended.state === "stuck" && !killed) wrong.push(`stuck: ${ended.fault?.message}`);
    if (one.blow.kind === "disk" && ended.state !== "failed")
      wrong.push(`${ended.state}, on a disk without a free block`);
    wrong.push(...(await problems()));
    const runs = (await machine())?.effective.state === "running";
    if (one.operation === "destroy") {
      if (ended.state === "succeeded" && runs) wrong.push("destroyed, and still there");
    } else if (before !== undefined && !killed) {
      wrong.push(...wrongSince(before, await insideGuest(guest)));
    }
    if (wrong.length > 0) throw new Error(wrong.join("\n"));
  }

  async function problems(): Promise<readonly string[]> {
    const world = connect();
    try {
      return await problemsOf({ hosts: world.hosts, store, fleet });
    } finally {
      await world.close();
    }
  }

  /** Does it, and returns how to take it back. */
  async function strike(
    blow: Exclude<Blow, { kind: "shepherd" }>,
    at: string,
  ): Promise<() => Promise<void>> {
    const layout = hostsOf(lab.layout).find((host) => host.id === at);
    if (layout === undefined) throw new Error(`no host ${at}`);
    const nothing = async () => undefined;
    if (blow.kind === "disk") {
      const filler = `${poolPath}/filler`;
      // What fits in large pieces, then the rest; the last write fails, and that is the point.
      const fill = `fallocate -l $(df --output=avail -B1 ${poolPath} | tail -1) ${filler} || true; dd if=/dev/zero of=${filler}2 bs=64k 2>/dev/null || true; df --output=avail -B1 ${poolPath} | tail -1`;
      await must([...insideHost(anchorOf(at)), "sh", "-c", fill]);
      return async () => {
        await must([...insideHost(anchorOf(at)), "rm", "-f", filler, `${filler}2`]);
      };
    }
    if (blow.kind === "link") {
      const set = (state: string) =>
        must([...inNamespace(lab.layout.routerNamespace), "ip", "link", "set", layout.port, state]);
      await set("down");
      return async () => {
        await set("up");
      };
    }
    const pids =
      blow.kind === "libvirtd"
        ? [Number(readFileSync(join(layout.folder, "run/libvirt/libvirtd.pid"), "utf8"))]
        : blow.kind === "qemu"
          ? processesOf(layout.namespace, (name) => name.startsWith("qemu-system"))
          : // Sessions, not the daemon that listens: whoever is connected is gone.
            processesOf(layout.namespace, (name) => name === "sshd").filter(
              (pid) => pid !== openLab({ name: labName }).hosts[at]?.sshd?.pid,
            );
    const alive = pids.flatMap((pid) => identify(pid) ?? []);
    const signal = (name: NodeJS.Signals) => {
      for (const one of alive) if (isAlive(one)) process.kill(one.pid, name);
    };
    if (blow.how === "stop") {
      signal("SIGSTOP");
      return async () => signal("SIGCONT");
    }
    signal("SIGKILL");
    if (blow.kind !== "libvirtd") return nothing;
    return async () => {
      const started = startDaemon(
        [...insideHost(anchorOf(at)), "libvirtd", "-p", "/run/libvirt/libvirtd.pid"],
        {
          logFile: join(layout.folder, "log/libvirtd.log"),
          env: {
            PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            HOME: "/root",
            LC_ALL: "C",
          },
        },
      );
      adoptProcess({ name: labName, pid: started.pid });
    };
  }

  async function declareMachine(): Promise<void> {
    machineId = ids.next();
    const index = 0;
    await declareRank(store, { machineId, index, environmentId, networkId, imageId, sizing });
  }

  return {
    lab,
    play,
    stand: () => prepare({ operation: "move" }),
    problems,
    connect,
    hostId,
    inside: (at) => insideHost(anchorOf(at)),
    get machineId() {
      return machineId;
    },
    async end() {
      if ((await machine())?.effective.hostId) await destroy();
      await store.close();
      await down({ name: labName });
    },
  };
}

function anchorOf(hostId: string) {
  const anchor = openLab({ name: labName }).hosts[hostId]?.anchor;
  if (anchor === undefined) throw new Error(`no anchor of ${hostId}`);
  return anchor;
}

/** A pool with an end: a small file system of its own over the pool's folder, as only this host sees it. */
async function limitPools(lab: Lab): Promise<void> {
  for (const { id, folder } of hostsOf(lab.layout)) {
    const image = join(folder, "pool.ext4");
    await must(["truncate", "-s", poolSize, image]);
    await must(["mkfs.ext4", "-q", "-F", "-m", "0", image]);
    await must([...insideHost(anchorOf(id)), "mount", "-o", "loop", image, poolPath]);
  }
}

/** Pids of a host, by the network namespace that they are in. */
function processesOf(namespace: string, fits: (name: string) => boolean): readonly number[] {
  const wanted = statSync(`/run/netns/${namespace}`).ino;
  return readdirSync("/proc").flatMap((entry) => {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) return [];
    try {
      if (statSync(`/proc/${pid}/ns/net`).ino !== wanted) return [];
      return fits(readFileSync(`/proc/${pid}/comm`, "utf8").trim()) ? [pid] : [];
    } catch (error) {
      // It ended between the two looks, or is nobody we may look at.
      if (["ENOENT", "ESRCH", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? ""))
        return [];
      throw error;
    }
  });
}
