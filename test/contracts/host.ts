/**
 * What every Host must do, on the simulated and on real libvirt alike: two hosts that share nothing, one machine that
 * lives, grows, moves and goes. The tests build on each other, in order. Where the two disagree, the simulated one is wrong.
 */
import { Readable } from "node:stream";
import {
  type DomainSpec,
  type Host,
  type MigrationProgress,
  topVolumeOf,
} from "@drover/shepherd/ports/host";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";

export interface HostPair {
  readonly from: Host;
  readonly to: Host;
  /** Address of `to` that `from` can reach. */
  readonly destinationAddress: string;
  /** Its bridge exists on both; its boot volumes are among `parts`. */
  readonly spec: DomainSpec;
  readonly parts: readonly {
    readonly name: string;
    readonly format: "qcow2" | "raw";
    readonly sizeBytes: number;
    readonly capacityBytes: number;
    readonly open: () => Readable;
  }[];
  /** The part that the machine's disk lies on, and its virtual size. */
  readonly base: { readonly name: string; readonly capacityBytes: number };
  /** Lets time pass until the promise settles: real time needs nothing. */
  until<T>(work: Promise<T>): Promise<T>;
  sleep(durationMs: number): Promise<void>;
  /** Sets the balloon as a human would. */
  setMemoryBehind(host: Host, memoryMib: number): Promise<void>;
  close(): Promise<void>;
}

const longTestMs = 120_000;

export function hostContract(name: string, open: () => Promise<HostPair>): void {
  describe(`host contract: ${name}`, () => {
    let pair: HostPair;
    beforeAll(async () => {
      pair = await open();
    }, 240_000);
    afterAll(() => pair?.close(), 60_000);

    /** Looks until it is so, and gives what was seen last. */
    async function eventually<T>(look: () => Promise<T>, isSo: (seen: T) => boolean): Promise<T> {
      for (let attempt = 1; ; attempt += 1) {
        const seen = await pair.until(look());
        if (isSo(seen) || attempt >= 600) return seen; // a minute: a guest without KVM on a busy host
        await pair.until(pair.sleep(100));
      }
    }
    const find = (host: Host) => pair.until(host.findDomain(pair.spec.id));
    const code = (work: Promise<unknown>) =>
      pair.until(
        work.then(
          () => "no fault",
          (error: unknown) => (error as { code?: string }).code,
        ),
      );

    test(
      "parts arrive whole; a short one counts as absent; removing twice is no error",
      async () => {
        for (const host of [pair.from, pair.to]) {
          for (const part of pair.parts) await pair.until(host.volumes.upload(part));
        }
        const found = await pair.until(pair.from.volumes.find(pair.base.name));
        expect(found).toMatchObject({ capacityBytes: pair.base.capacityBytes, backing: undefined });
        const short = {
          name: "drover-short",
          format: "raw",
          sizeBytes: 4096,
          capacityBytes: 4096,
          open: () => Readable.from([Buffer.alloc(1024)]),
        } as const;
        expect(await code(pair.from.volumes.upload(short))).toBe("volume.size_mismatch");
        expect(await pair.until(pair.from.volumes.find("drover-short"))).toBeUndefined();
        await pair.until(pair.from.volumes.remove("drover-short"));
        await pair.until(pair.from.volumes.remove("drover-short"));
      },
      longTestMs,
    );

    test(
      "an overlay has the size asked for and names its backing; without one it is refused",
      async () => {
        const { name: backing, capacityBytes } = pair.base;
        const overlay = { name: pair.spec.diskVolume, backing, capacityBytes };
        for (const host of [pair.from, pair.to])
          await pair.until(host.volumes.createOverlay(overlay));
        const found = await pair.until(pair.from.volumes.find(overlay.name));
        expect(found).toMatchObject({ capacityBytes, backing });
        const lost = { ...overlay, name: "drover-lost", backing: "drover-nothing" };
        expect(await code(pair.from.volumes.createOverlay(lost))).toBe("libvirt.no_volume");
      },
      longTestMs,
    );

    test(
      "a machine starts once, with its sizes and our mark",
      async () => {
        await pair.until(pair.from.startDomain(pair.spec));
        await pair.until(pair.from.startDomain(pair.spec));
        const { spec } = pair;
        expect(await find(pair.from)).toMatchObject({
          id: spec.id,
          name: spec.name,
          state: "running",
          ours: { environmentId: spec.environmentId, owner: spec.owner, epoch: spec.epoch },
          vcpus: spec.vcpus,
          vcpusMax: spec.vcpusMax,
          cpuPercent: spec.cpuPercent,
          memoryTargetMib: spec.memoryMib,
          memoryMaxMib: spec.memoryMaxMib,
        });
        expect(await pair.until(pair.from.findDomainByName(spec.name))).toMatchObject({
          id: spec.id,
        });
        expect(await find(pair.to)).toBeUndefined();
        const other = { ...spec, id: "0192f000-1111-7222-8333-00000000c0ff" };
        expect(await code(pair.from.startDomain(other))).toBe("machine.name_taken");
      },
      longTestMs,
    );

    test(
      "live sizes are what was asked, at once; the balloon follows",
      async () => {
        const { from, spec } = pair;
        await pair.until(from.setMemory(spec.id, spec.memoryMaxMib));
        await pair.until(from.setCpuPercent(spec.id, 50));
        await pair.until(from.setVcpus(spec.id, spec.vcpus + 1));
        for (const weight of [100, 1, 333]) {
          await pair.until(from.setCpuWeight(spec.id, weight));
          expect((await find(from))?.cpuWeight).toBe(weight);
        }
        expect(await find(from)).toMatchObject({
          memoryTargetMib: spec.memoryMaxMib,
          cpuPercent: 50,
          vcpus: spec.vcpus + 1,
        });
        const grown = await eventually(
          () => from.findDomain(spec.id),
          (domain) => domain?.memoryMib === spec.memoryMaxMib,
        );
        expect(grown?.memoryMib).toBe(spec.memoryMaxMib);
        expect(await code(from.setMemory(spec.id, spec.memoryMaxMib * 2))).toMatch(/^libvirt\./);
        // Fewer vCPUs leave the cap as it was asked for, whether its guest lets go of them or not.
        await pair.until(from.setCpuPercent(spec.id, 150));
        await pair.until(from.setVcpus(spec.id, spec.vcpus));
        const fewer = await find(from);
        expect(fewer).toMatchObject({ vcpus: spec.vcpus, cpuPercent: 150 });
        expect(fewer?.guestVcpus ?? spec.vcpus).toBeGreaterThanOrEqual(spec.vcpus);
        await pair.until(from.setCpuPercent(spec.id, 120));
        expect(await find(from)).toMatchObject({ vcpus: spec.vcpus, cpuPercent: 120 });
        await pair.until(from.setVcpus(spec.id, spec.vcpus + 1));
        expect(await find(from)).toMatchObject({ vcpus: spec.vcpus + 1, cpuPercent: 120 });
      },
      longTestMs,
    );

    test(
      "a change behind our back shows in what the guest has, not in what we asked",
      async () => {
        const { from, spec } = pair;
        const behindMib = spec.memoryMaxMib - 32;
        await pair.setMemoryBehind(from, behindMib);
        const seen = await eventually(
          () => from.findDomain(spec.id),
          (domain) => domain?.memoryMib === behindMib,
        );
        expect(seen).toMatchObject({ memoryMib: behindMib, memoryTargetMib: spec.memoryMaxMib });
        await pair.until(from.setMemory(spec.id, spec.memoryMib));
      },
      longTestMs,
    );

    test(
      "a card is plugged in once and let go once; the machine's first one stays",
      async () => {
        const { from, spec } = pair;
        const [first] = spec.nics;
        if (first === undefined) throw new Error("the contract's machine has a card");
        const card = { ...first, mac: "52:54:00:00:c0:ff", tap: "dvt0c0ff" };
        for (const _ of [1, 2]) await pair.until(from.attachNic(spec.id, card));
        expect((await find(from))?.macs).toEqual([first.mac, card.mac]);
        for (const _ of [1, 2]) await pair.until(from.detachNic(spec.id, card.mac));
        expect((await find(from))?.macs).toEqual([first.mac]);
        const lost = { ...card, bridge: "dvnothing" };
        expect(await code(from.attachNic(spec.id, lost))).toMatch(/^libvirt\./);
      },
      longTestMs,
    );

    test(
      "a volume grows and never shrinks; a disk that the machine does not have is refused",
      async () => {
        const { from, spec } = pair;
        const volume = "drover-grows.qcow2";
        const capacityBytes = 16 * 2 ** 20;
        await pair.until(from.volumes.createEmpty({ name: volume, capacityBytes }));
        for (const times of [2, 1])
          await pair.until(
            from.volumes.grow({ name: volume, capacityBytes: capacityBytes * times }),
          );
        expect(await pair.until(from.volumes.find(volume))).toMatchObject({
          capacityBytes: capacityBytes * 2,
        });
        const disk = { volume, capacityBytes: capacityBytes * 4 };
        expect(await code(from.growDisk(spec.id, disk))).toBe("libvirt.bad_argument");
        await pair.until(from.volumes.remove(volume));
        expect(await code(from.volumes.grow({ name: volume, capacityBytes }))).toBe(
          "libvirt.no_volume",
        );
      },
      longTestMs,
    );

    test(
      "a channel opens once, and ends when it is closed",
      async () => {
        const channel = await pair.until(pair.from.openChannel(pair.spec.id, "dev.drover.0"));
        channel.resume();
        channel.destroy();
        const again = await pair.until(pair.from.openChannel(pair.spec.id, "dev.drover.0"));
        again.destroy();
      },
      longTestMs,
    );

    /** Both halves, up to and including prepare, on a fresh overlay. */
    async function prepared(more: { readonly bandwidthMbps?: number } = {}) {
      const { from, to, spec, base, destinationAddress } = pair;
      await pair.until(to.volumes.remove(spec.diskVolume));
      await pair.until(
        to.volumes.createOverlay({
          name: spec.diskVolume,
          backing: base.name,
          capacityBytes: base.capacityBytes,
        }),
      );
      const parameters = { machineId: spec.id, destinationAddress, copyDisk: true, ...more };
      const source = await pair.until(from.migrateFrom(parameters));
      const destination = await pair.until(to.migrateTo(parameters));
      const ready = await pair.until(destination.prepare(await pair.until(source.begin())));
      const leave = () => pair.until(Promise.all([source.close(), destination.close()]));
      return { source, destination, ready, leave };
    }
    const goneThere = () =>
      eventually(
        () => pair.to.findDomain(pair.spec.id),
        (domain) => domain === undefined,
      );

    test(
      "a disk is frozen while its guest runs, its layer arrives elsewhere in ranges, and it is joined again",
      async () => {
        const { from, to, spec } = pair;
        const volume = spec.diskVolume;
        const layers = { volume, top: topVolumeOf(volume) };
        const rangeBytes = 2 ** 20;
        await pair.until(to.volumes.remove(volume));
        await pair.until(from.freezeDisk(spec.id, layers));
        await pair.until(from.freezeDisk(spec.id, layers));
        expect(await find(from)).toMatchObject({ state: "running", diskVolumes: [layers.top] });

        const digests = (host: Host) =>
          pair.until(host.volumes.digests({ name: volume, rangeBytes }));
        const frozen = await digests(from);
        const sizeBytes = frozen?.sizeBytes ?? 0;
        expect(frozen?.digests).toHaveLength(Math.ceil(sizeBytes / rangeBytes));
        expect(await digests(to)).toBeUndefined();
        const begin = () => pair.until(to.volumes.beginPartial({ name: volume, sizeBytes }));
        expect(await begin()).toEqual({ isNew: true });
        for (let offsetBytes = 0; offsetBytes < sizeBytes; offsetBytes += rangeBytes) {
          const lengthBytes = Math.min(rangeBytes, sizeBytes - offsetBytes);
          const range = { name: volume, offsetBytes, lengthBytes };
          const bytes = from.volumes.readRange(range);
          await pair.until(to.volumes.writeRange({ ...range, bytes }));
        }
        // Begun again, it goes on with what is there; nobody who looks sees it until it is sealed.
        expect(await begin()).toEqual({ isNew: false });
        expect(await digests(to)).toEqual(frozen);
        expect(await pair.until(to.volumes.find(volume))).toBeUndefined();
        expect(await pair.until(to.volumes.listPartial())).toMatchObject([{ name: volume }]);
        await pair.until(to.volumes.seal(volume));
        await pair.until(to.volumes.seal(volume));
        expect(await pair.until(to.volumes.find(volume))).toMatchObject({ name: volume });
        expect(await pair.until(to.volumes.listPartial())).toEqual([]);
        await pair.until(to.volumes.remove(volume));

        await pair.until(from.foldDisk(spec.id, layers));
        await pair.until(from.foldDisk(spec.id, layers));
        expect(await find(from)).toMatchObject({ state: "running", diskVolumes: [volume] });
        expect(await pair.until(from.volumes.find(layers.top))).toBeUndefined();
      },
      longTestMs,
    );

    test(
      "a copy that is aborted leaves the machine running, and nothing at the destination",
      async () => {
        const { source, destination, ready, leave } = await prepared({ bandwidthMbps: 16 });
        const performing = source.perform(ready, () => undefined);
        const failed = code(performing);
        await pair.until(pair.sleep(1_500));
        await pair.until(source.abort());
        expect(await failed).toMatch(/^libvirt\.(aborted|operation_failed)$/);
        const cookie = new Uint8Array();
        await pair.until(destination.finish({ cookie, cancelled: true }));
        await pair.until(source.confirm({ cookie, cancelled: true }));
        await leave();
        expect(await goneThere()).toBeUndefined();
        expect(await find(pair.from)).toMatchObject({ state: "running" });
      },
      longTestMs,
    );

    test(
      "handed over and then left alone, it waits paused at the source and can be resumed there",
      async () => {
        const { source, ready, leave } = await prepared();
        await pair.until(source.perform(ready, () => undefined));
        await leave();
        expect(await goneThere()).toBeUndefined();
        expect(await find(pair.from)).toMatchObject({ state: "paused_migrating" });
        await pair.until(pair.from.resumeDomain(pair.spec.id));
        await pair.until(pair.from.resumeDomain(pair.spec.id));
        expect(await find(pair.from)).toMatchObject({ state: "running" });
      },
      longTestMs,
    );

    test(
      "a finished move runs there, and only there; its sizes go along",
      async () => {
        const before = await find(pair.from);
        const { source, destination, ready, leave } = await prepared();
        const progress: MigrationProgress[] = [];
        const performed = await pair.until(source.perform(ready, (step) => progress.push(step)));
        expect(await find(pair.from)).toMatchObject({ state: "paused_migrating" });
        const { cookie } = await pair.until(
          destination.finish({ cookie: performed, cancelled: false }),
        );
        expect(await find(pair.to)).toMatchObject({ state: "running" });
        await pair.until(source.confirm({ cookie, cancelled: false }));
        await leave();
        expect(await find(pair.from)).toBeUndefined();
        expect(await find(pair.to)).toMatchObject({
          ours: before?.ours,
          vcpus: before?.vcpus,
          cpuPercent: before?.cpuPercent,
          memoryTargetMib: before?.memoryTargetMib,
        });
        expect(progress.length).toBeGreaterThan(0);
        expect(progress.every((step) => step.remainingBytes <= step.totalBytes)).toBe(true);
      },
      longTestMs,
    );

    test(
      "stopping removes the domain, also a second time",
      async () => {
        await pair.until(pair.to.stopDomain(pair.spec.id, { graceMs: 0 }));
        await pair.until(pair.to.stopDomain(pair.spec.id, { graceMs: 0 }));
        expect(await find(pair.to)).toBeUndefined();
        for (const host of [pair.from, pair.to]) {
          await pair.until(host.volumes.remove(pair.spec.diskVolume));
          expect(await pair.until(host.volumes.find(pair.spec.diskVolume))).toBeUndefined();
        }
      },
      longTestMs,
    );
  });
}
