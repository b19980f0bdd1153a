/**
 * The two halves of a managed migration, with the phases, roll-backs and the one bad window of the real thing
 * (reference: managed migration, measured): a source that handed everything over stays paused until it is told how it
 * ended. Time follows from sizes, copy rate and dirty rate. Knows no operation and no journal.
 */
import { Fault } from "#model/fault";
import type { HostId, Ms } from "#model/units";
import type {
  MigrationCookie,
  MigrationDestination,
  MigrationParameters,
  MigrationProgress,
  MigrationSource,
} from "#ports/host";
import type { Caller } from "#simulated/caller";
import type { DomainData } from "#simulated/data";
import type { Machinery } from "#simulated/machinery";

interface Side {
  readonly machinery: Machinery;
  readonly caller: Caller;
  readonly hostId: HostId;
  readonly parameters: MigrationParameters;
}

const progressEveryMs = 250;
const mib = 2 ** 20;

export function migrateFrom({ machinery, caller, hostId, parameters }: Side): MigrationSource {
  const id = parameters.machineId;
  const host = () => machinery.host(hostId);
  const call = <T>(name: string, work: () => T | Promise<T>) => caller.call(hostId, name, work);
  const need = (procedure: string): DomainData => {
    const domain = host().domains[id];
    if (domain === undefined) {
      throw new Fault("libvirt.no_domain", { procedure, message: `no domain with id ${id}` });
    }
    return domain;
  };
  const state = {
    aborted: false,
    begun: false,
    postCopy: false,
    /** Files at the destination that were empty when the copy began. */
    fresh: undefined as readonly string[] | undefined,
    bandwidthMbps: parameters.bandwidthMbps,
  };

  return {
    begin: () =>
      call("begin", () => {
        const domain = need("begin");
        if (domain.state !== "running" || domain.job !== "none") {
          const message = `domain is ${domain.state}, job ${domain.job}`;
          throw new Fault("libvirt.invalid_now", { procedure: "begin", message });
        }
        domain.job = "performing";
        state.begun = true;
        machinery.changed();
        return { cookie: encode({ from: hostId }), domainXml: JSON.stringify(domain.spec) };
      }),
    perform: ({ cookie, uri }, onProgress) =>
      call("perform", async () => {
        const destination = machinery.host(decode(cookie)["at"] ?? "");
        const domain = need("perform");
        const startedAtMs = machinery.clock.nowMs();
        const written = parameters.copyDisk ? writtenBy(domain) : [];
        const diskBytes = written.reduce(
          (sum, name) => sum + (host().volumes[name]?.allocatedBytes ?? 0),
          0,
        );
        // What is copied over something else is neither: clusters of both show.
        if (state.fresh === undefined) {
          state.fresh = written.filter((name) => destination.volumes[name]?.content === "");
          for (const name of written) {
            const target = destination.volumes[name];
            if (target !== undefined) target.content = "half of a copy";
          }
        }
        const rate = () => ratesOf(machinery, state.bandwidthMbps);
        let iteration: number | undefined;

        let before = 0;
        const copy = async (phase: MigrationProgress["phase"], bytes: number): Promise<void> => {
          for (let doneMs = 0; ; ) {
            if (state.aborted) {
              throw new Fault("libvirt.aborted", {
                procedure: "perform",
                message: "canceled by client",
              });
            }
            if (domain.job !== "performing" || destination.domains[id]?.job !== "incoming") {
              const message = `migration to ${uri} was cut off`;
              throw new Fault("libvirt.operation_failed", { procedure: "perform", message });
            }
            const remainingBytes = Math.max(0, Math.round(bytes - rate().bytesPerMs * doneMs));
            onProgress({
              phase,
              totalBytes: before + bytes,
              remainingBytes,
              elapsedMs: machinery.clock.nowMs() - startedAtMs,
              iteration,
              bytesPerS: Math.round(rate().bytesPerMs * 1000),
              dirtyBytesPerS: machinery.speeds.dirtyMibPerS * mib,
            });
            if (remainingBytes === 0) {
              before += bytes;
              return;
            }
            const stepMs = Math.max(
              1,
              Math.ceil(Math.min(progressEveryMs, remainingBytes / rate().bytesPerMs)),
            );
            await caller.pause(hostId, stepMs);
            doneMs += stepMs;
          }
        };
        try {
          await copy("disk", diskBytes);
          iteration = 1;
          const memoryBytes = machinery.memoryOf(domain) * mib;
          // A guest that dirties faster than the wire carries never gets there by itself.
          while (rate().rounds === Number.POSITIVE_INFINITY && !state.postCopy) {
            await copy("memory", memoryBytes);
            iteration += 1;
          }
          await copy("memory", state.postCopy ? 0 : Math.ceil(memoryBytes * rate().rounds));
          await copy("switch", 0);
        } catch (error) {
          if (domain.job === "performing") domain.job = "none";
          machinery.changed();
          throw error;
        }
        domain.job = "performed";
        machinery.setState(host(), domain, "paused_migrating");
        for (const name of state.fresh) {
          const [volume, target] = [host().volumes[name], destination.volumes[name]];
          if (volume === undefined || target === undefined) continue;
          target.content = domain.dataContents?.[name] ?? domain.diskContent;
          target.allocatedBytes = Math.max(target.allocatedBytes, volume.allocatedBytes);
        }
        return encode({
          from: hostId,
          at: destination.id,
          suspendedAtMs: `${machinery.clock.nowMs()}`,
        });
      }),
    confirm: ({ cancelled }) =>
      call("confirm", () => {
        const domain = host().domains[id];
        if (domain === undefined || domain.job === "none") return;
        domain.job = "none";
        if (cancelled) machinery.setState(host(), domain, "running");
        else machinery.removeDomain(host(), domain);
        machinery.changed();
      }),
    abort: () =>
      call("abort", () => {
        state.aborted = true;
      }),
    setBandwidth: (mbps) =>
      call("setBandwidth", () => {
        state.bandwidthMbps = mbps;
      }),
    startPostCopy: () =>
      call("startPostCopy", () => {
        if (parameters.mayPostCopy !== true) {
          const message = "post-copy was not asked for at the start";
          throw new Fault("libvirt.unsupported", { procedure: "startPostCopy", message });
        }
        state.postCopy = true;
      }),
    async close() {
      if (!state.begun) return;
      // The daemon ends the job of a client that leaves; a guest that was handed over stays paused.
      await call("close", () => {
        const domain = host().domains[id];
        if (domain === undefined || domain.job === "none") return;
        if (domain.job === "performing") machinery.setState(host(), domain, "running");
        domain.job = "none";
        machinery.changed();
      });
    },
  };
}

export function migrateTo({ machinery, caller, hostId, parameters }: Side): MigrationDestination {
  const id = parameters.machineId;
  const host = () => machinery.host(hostId);
  const call = <T>(name: string, work: () => T | Promise<T>) => caller.call(hostId, name, work);
  const refuse = (message: string) =>
    new Fault("libvirt.operation_failed", { procedure: "prepare", message });

  return {
    prepare: ({ cookie, domainXml }) =>
      call("prepare", () => {
        const from = decode(cookie)["from"] ?? "";
        const source = machinery.host(from).domains[id];
        const spec = JSON.parse(domainXml) as NonNullable<DomainData["spec"]>;
        if (source === undefined) throw refuse(`no such domain on ${from}`);
        if (host().domains[id] !== undefined) throw refuse(`domain ${spec.name} is there already`);
        const neededMib = machinery.memoryOf(source);
        if (neededMib > host().memoryMib - machinery.usedMemoryMib(host())) {
          throw refuse("cannot set up guest memory: Cannot allocate memory");
        }
        const boot = [spec.boot?.kernelVolume, spec.boot?.initrdVolume];
        for (const name of [spec.diskVolume, ...writtenBy(source), ...boot]) {
          if (name === undefined) continue;
          const volume = host().volumes[name];
          if (volume === undefined || volume.partial !== undefined) {
            throw refuse(`unable to stat ${name}: No such file or directory`);
          }
        }
        for (const name of writtenBy(source)) {
          // QEMU's copy compares sizes.
          const [here, there] = [machinery.host(from).volumes[name], host().volumes[name]];
          if (here?.capacityBytes !== there?.capacityBytes) {
            throw refuse(`source and target image have different sizes: ${name}`);
          }
        }
        const bridges = new Set(host().network.bridges.map((bridge) => bridge.bridge));
        for (const nic of spec.nics) {
          if (!bridges.has(nic.bridge)) throw refuse(`Cannot get interface MTU on ${nic.bridge}`);
        }
        machinery.addDomain(host(), {
          ...source,
          memory: { ...source.memory },
          cpuTime: { ...source.cpuTime },
          state: "paused_migrating",
          job: "incoming",
        });
        return {
          cookie: encode({ from, at: hostId }),
          uri: `tcp:${parameters.destinationAddress}:49152`,
        };
      }),
    finish: ({ cookie, cancelled }) =>
      call("finish", async () => {
        const domain = host().domains[id];
        if (cancelled) {
          if (domain?.job === "incoming") machinery.removeDomain(host(), domain);
          return { cookie };
        }
        if (domain?.job !== "incoming") {
          const message = `no domain with id ${id}`;
          throw new Fault("libvirt.no_domain", { procedure: "finish", message });
        }
        await caller.pause(hostId, machinery.speeds.switchMs);
        const source = machinery.host(decode(cookie)["from"] ?? "").domains[id];
        if (host().domains[id] !== domain) throw refuse("the incoming guest died");
        // Memory as it was at the end of the copy, balloon and all.
        if (source !== undefined) domain.memory = { ...source.memory };
        domain.job = "none";
        machinery.setState(host(), domain, "running");
        const suspendedAtMs = Number(decode(cookie)["suspendedAtMs"] ?? machinery.clock.nowMs());
        const downtimeMs: Ms = machinery.clock.nowMs() - suspendedAtMs;
        return { cookie: encode({ ...decode(cookie), downtimeMs: `${downtimeMs}` }) };
      }),
    async close() {
      await call("close", () => {
        const domain = host().domains[id];
        if (domain?.job === "incoming") machinery.removeDomain(host(), domain);
      });
    },
  };
}

/** Files that its guest writes to. */
function writtenBy({ spec, top }: DomainData): readonly string[] {
  return spec === undefined ? [] : [top ?? spec.diskVolume, ...(spec.dataVolumes ?? [])];
}

/** Bytes a millisecond, and how often the memory goes over the wire until the rest fits into the switch. */
function ratesOf(machinery: Machinery, bandwidthMbps: number | undefined) {
  const { speeds } = machinery;
  const mbps = Math.min(speeds.copyMbps, bandwidthMbps ?? speeds.copyMbps);
  const bytesPerMs = (mbps * 1000) / 8;
  const dirtyShare = (speeds.dirtyMibPerS * mib) / 1000 / bytesPerMs;
  return { bytesPerMs, rounds: dirtyShare < 1 ? 1 / (1 - dirtyShare) : Number.POSITIVE_INFINITY };
}

function encode(cookie: Record<string, string>): MigrationCookie {
  return new TextEncoder().encode(JSON.stringify(cookie));
}

function decode(cookie: MigrationCookie): Record<string, string> {
  return JSON.parse(new TextDecoder().decode(cookie)) as Record<string, string>;
}
