/**
 * What a simulated host says before a live move. Hosts are alike until a test makes one different: an older hypervisor,
 * fewer machine types or processor features, a pool that is off. Changes nothing.
 */
import type { Blocker } from "#model/blocker";
import type { HostId } from "#model/units";
import type { Host, MoveCandidate } from "#ports/host";
import type { Caller } from "#simulated/caller";
import type { HostData } from "#simulated/data";
import type { Machinery } from "#simulated/machinery";

const usual = {
  hypervisorVersion: 10_000_002,
  machineTypes: ["pc-q35-10.0", "pc-q35-7.2"],
  cpuFeatures: ["aes", "avx", "sse4.2"],
} as const;

export type MoveChecks = Pick<
  Host,
  "describeForMove" | "blockersOf" | "guestCpu" | "commonCpu" | "dirtyMibPerS"
>;

export function simulatedMoveChecks(
  machinery: Machinery,
  caller: Caller,
  hostId: HostId,
): MoveChecks {
  const host = () => machinery.host(hostId);
  const call = <T>(name: string, work: () => T | Promise<T>) => caller.call(hostId, name, work);
  return {
    describeForMove: (id) =>
      call("describeForMove", () => {
        const domain = host().domains[id];
        return (
          domain && {
            machineId: id,
            name: domain.name,
            state: domain.state,
            memoryMib: machinery.memoryOf(domain),
            acceleration: "tcg" as const,
            machineType: machineTypesOf(host())[0] ?? "",
            hypervisorVersion: host().hypervisorVersion ?? usual.hypervisorVersion,
            cpu: domain.spec?.cpu ?? featuresOf(host()).join(" "),
            volumes:
              domain.spec === undefined
                ? []
                : [domain.top ?? domain.spec.diskVolume, ...(domain.spec.dataVolumes ?? [])],
            strangeDisks: [],
          }
        );
      }),
    blockersOf: (candidate) => call("blockersOf", () => blockersOf(host(), candidate)),
    // Known beforehand, as libvirt's own answer is after the first time: no call that takes time.
    guestCpu: async () => featuresOf(host()).join(" "),
    async commonCpu(models) {
      const [first = [], ...others] = models.map((model) => model.split(" "));
      return first.filter((each) => others.every((other) => other.includes(each))).join(" ");
    },
    dirtyMibPerS: (id, seconds) =>
      call("dirtyMibPerS", async () => {
        if (host().domains[id]?.state !== "running") return undefined;
        await caller.pause(hostId, seconds * 1_000);
        return machinery.speeds.dirtyMibPerS;
      }),
  };
}

function blockersOf(host: HostData, candidate: MoveCandidate): readonly Blocker[] {
  const blockers: Blocker[] = [];
  const version = host.hypervisorVersion ?? usual.hypervisorVersion;
  if (version < candidate.hypervisorVersion) {
    blockers.push({
      check: "version",
      problem: `${host.id} runs ${version}, older than ${candidate.hypervisorVersion}`,
      fix: `bring the hypervisor of ${host.id} to ${candidate.hypervisorVersion}`,
    });
  }
  if (!machineTypesOf(host).includes(candidate.machineType)) {
    blockers.push({
      check: "machine_type",
      problem: `${host.id} has no machine type ${candidate.machineType}`,
      fix: "start the machine anew with a type that both have",
    });
  }
  const lacking = (candidate.cpu ?? "")
    .split(" ")
    .filter((each) => each !== "" && !featuresOf(host).includes(each));
  if (candidate.cpu !== undefined && lacking.length > 0) {
    blockers.push({
      check: "cpu",
      problem: `the processor of ${host.id} lacks ${lacking.join(", ")}`,
      fix: "start the machine anew: it then gets the processor that all hosts of its sites have in common",
    });
  }
  if (host.poolInactive === true) {
    blockers.push({
      check: "pool",
      problem: `the storage pool of ${host.id} is not active`,
      fix: `start the pool on ${host.id}`,
    });
  }
  return blockers;
}

function machineTypesOf(host: HostData): readonly string[] {
  return host.machineTypes ?? usual.machineTypes;
}
function featuresOf(host: HostData): readonly string[] {
  return host.cpuFeatures ?? usual.cpuFeatures;
}
