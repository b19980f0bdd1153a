/**
 * Hosts as operations see them: a host that a person confirmed dead holds nothing and takes nothing. It answers "not
 * here" to every question, so that what waited for it can end, and refuses every change. The real host is never called:
 * should it come back to life, nothing of ours has touched it. Knows the port, not the journal.
 */
import { Fault } from "#model/fault";
import type { HostId } from "#model/units";
import type { Host, Hosts } from "#ports/host";
import type { HostNetwork } from "#ports/host-network";

export function withGraves(hosts: Hosts, isDead: (hostId: HostId) => boolean): Hosts {
  return {
    get: (id) => (isDead(id) ? grave(id) : hosts.get(id)),
    network: (id) => (isDead(id) ? silentNetwork : hosts.network(id)),
  };
}

/** Nothing to differ from, nothing to change. */
const silentNetwork: HostNetwork = {
  audit: async () => [],
  apply: async () => [],
  tunnelKey: async () => {
    throw new Fault("host.unreachable", { host: "dead", problem: "a person confirmed it dead" });
  },
  shakesHands: async () => false,
  pathMtu: async () => 0,
  clockMs: async () => {
    throw new Fault("host.unreachable", { host: "dead", problem: "a person confirmed it dead" });
  },
  arm: async () => undefined,
  moveWay: async () => ({ ownsAddress: false, canMakeKeys: false, portsTaken: 0, peer: undefined }),
};

function grave(id: HostId): Host {
  const refuse = async (): Promise<never> => {
    throw new Fault("host.dead", { host: id });
  };
  const nothing = async () => undefined;
  return {
    id,
    observe: refuse,
    listDomains: async () => [],
    findDomain: nothing,
    findDomainByName: nothing,
    startDomain: refuse,
    stopDomain: nothing,
    markDomain: refuse,
    resumeDomain: refuse,
    setMemory: refuse,
    guestMemory: nothing,
    setVcpus: refuse,
    setCpuPercent: refuse,
    setCpuWeight: refuse,
    attachNic: refuse,
    detachNic: nothing,
    growDisk: refuse,
    describeForMove: nothing,
    blockersOf: refuse,
    guestCpu: refuse,
    commonCpu: refuse,
    dirtyMibPerS: nothing,
    volumes: {
      find: nothing,
      list: async () => [],
      upload: refuse,
      createOverlay: refuse,
      createEmpty: refuse,
      grow: refuse,
      remove: nothing,
      digests: nothing,
      readRange: () => ({ [Symbol.asyncIterator]: () => ({ next: refuse }) }),
      beginPartial: refuse,
      writeRange: refuse,
      seal: refuse,
      listPartial: async () => [],
    },
    freezeDisk: refuse,
    foldDisk: refuse,
    migrateFrom: refuse,
    migrateTo: refuse,
    openChannel: refuse,
    openConsole: refuse,
    watch: () => () => undefined,
    close: nothing,
  };
}
