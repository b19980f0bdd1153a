/**
 * Every call the shepherd may make, as a table: number, arguments, result. Encoders, decoders and types derive from it.
 * Facts: libvirt.md section 3, checked against a live libvirtd 9.0; names are ours, units are the last word.
 * `priority: true` marks what the daemon runs on its reserved workers, also when all others are stuck.
 */
import { programs } from "#libvirt/rpc/frame";
import {
  domainRef,
  filterRef,
  networkRef,
  poolRef,
  secretRef,
  snapshotRef,
  volumeRef,
} from "#libvirt/rpc/references";
import {
  bool,
  type Codec,
  charArray,
  type Fields,
  i32,
  i64,
  list,
  opaque,
  optional,
  type StructOf,
  string,
  struct,
  text,
  typedParameters,
  u32,
  u64,
  uuid,
} from "#libvirt/rpc/schema";
import { limits } from "#libvirt/rpc/xdr";

export interface Procedure<Args, Result> {
  /** Ours, for errors and logs: `remote.domainGetInfo`. */
  readonly name: string;
  readonly program: number;
  readonly number: number;
  readonly priority: boolean;
  readonly args: Codec<Args>;
  readonly result: Codec<Result>;
}
/** What a procedure takes and gives, for the callers' signatures. */
export type ArgsOf<P> = P extends Procedure<infer Args, unknown> ? Args : never;
export type ResultOf<P> = P extends Procedure<never, infer Result> ? Result : never;

interface Row<A extends Fields, R extends Fields> {
  readonly number: number;
  readonly priority: boolean;
  readonly args: A;
  readonly result: R;
}
type Table = Readonly<Record<string, Row<Fields, Fields>>>;
type Program<T extends Table> = {
  readonly [K in keyof T]: Procedure<StructOf<T[K]["args"]>, StructOf<T[K]["result"]>>;
};

function low<A extends Fields, R extends Fields = Record<never, never>>(
  number: number,
  args: A,
  result: R = {} as R,
): Row<A, R> {
  return { number, priority: false, args, result };
}
function high<A extends Fields, R extends Fields = Record<never, never>>(
  number: number,
  args: A,
  result: R = {} as R,
): Row<A, R> {
  return { number, priority: true, args, result };
}
function program<T extends Table>(name: string, id: number, table: T): Program<T> {
  return Object.fromEntries(
    Object.entries(table).map(([key, row]) => [
      key,
      {
        name: `${name}.${key}`,
        program: id,
        number: row.number,
        priority: row.priority,
        args: struct(row.args),
        result: struct(row.result),
      },
    ]),
  ) as Program<T>;
}

const domain = domainRef;
const flags = u32;
const parameters = typedParameters();
const migrationParameters = typedParameters(limits.migrationParameters);
const cookie = opaque();
const cpuMap = opaque(2_048);
const nodeStats = list(struct({ field: text(80), value: u64 }), 128);
const onDomain = { domain, flags };
const cpuModel = {
  emulator: optional(string),
  arch: optional(string),
  machine: optional(string),
  virtType: optional(string),
};
const onPath = { domain, path: string };
const volumeSpan = { volume: volumeRef, offsetBytes: u64, lengthBytes: u64, flags };
const frozen = { domain, mountpoints: list(string, 256), flags };

export const remote = program("remote", programs.remote, {
  // connection
  connectOpen: high(1, { uri: optional(string), flags }),
  connectClose: high(2, {}),
  authList: high(66, {}, { types: list(i32, 20) }),
  authPolkit: high(70, {}, { complete: i32 }),
  supportsFeature: high(60, { feature: i32 }, { supported: bool }),
  getHostname: high(59, {}, { hostname: string }),
  getLibVersion: high(157, {}, { version: u64 }),
  /** The hypervisor's: QEMU 7.2.22 is 7,002,022. */
  getVersion: high(4, {}, { version: u64 }),
  getCapabilities: low(7, {}, { xml: string }),
  getDomainCapabilities: low(342, { ...cpuModel, flags }, { xml: string }),
  baselineHypervisorCpu: low(394, { ...cpuModel, cpus: list(string, 64), flags }, { cpu: string }),
  compareHypervisorCpu: low(393, { ...cpuModel, cpu: string, flags }, { result: i32 }),
  listAllDomains: high(
    273,
    { needResults: i32, flags },
    { domains: list(domain, limits.domains), count: u32 },
  ),
  getAllDomainStats: low(
    344,
    { domains: list(domain, limits.domains), stats: u32, flags },
    {
      records: list(
        struct({ domain, parameters: typedParameters(limits.domainStatsParameters) }),
        limits.domains,
      ),
    },
  ),
  registerDomainEvent: high(316, { eventId: i32, domain: optional(domain) }, { callbackId: i32 }),
  deregisterDomainEvent: high(317, { callbackId: i32 }),

  // the host machine
  nodeGetInfo: high(
    6,
    {},
    {
      model: charArray(32),
      memoryKib: u64,
      cpus: i32,
      mhz: i32,
      nodes: i32,
      sockets: i32,
      cores: i32,
      threads: i32,
    },
  ),
  nodeGetCpuStats: high(227, { cpu: i32, count: i32, flags }, { stats: nodeStats, count: i32 }),
  nodeGetMemoryStats: high(228, { count: i32, cell: i32, flags }, { stats: nodeStats, count: i32 }),
  nodeGetFreePages: high(
    340,
    { pageSizesKib: list(u32, 16), startCell: i32, cellCount: u32, flags },
    { counts: list(u64, 2_048) },
  ),
  nodeGetCellsFreeMemory: high(
    101,
    { startCell: i32, maxCells: i32 },
    { freeBytes: list(u64, 1_024) },
  ),

  // a domain's life
  domainLookupByName: high(23, { name: string }, { domain }),
  domainLookupByUuid: high(24, { uuid }, { domain }),
  domainCreateXml: low(10, { xml: string, flags }, { domain }),
  domainDefineXmlFlags: high(350, { xml: string, flags }, { domain }),
  domainCreateWithFlags: low(196, onDomain, { domain }),
  domainDestroyFlags: high(234, onDomain),
  domainShutdownFlags: low(258, onDomain),
  domainReboot: low(27, onDomain),
  domainSuspend: low(34, { domain }),
  domainResume: low(28, { domain }),
  domainUndefineFlags: high(231, onDomain),
  domainGetXmlDesc: low(14, onDomain, { xml: string }),
  domainGetInfo: low(
    16,
    { domain },
    { state: u32, maxMemoryKib: u64, memoryKib: u64, vcpus: u32, cpuTimeNs: u64 },
  ),
  domainGetState: high(212, onDomain, { state: i32, reason: i32 }),
  domainSetMetadata: low(264, {
    domain,
    type: i32,
    metadata: optional(string),
    key: optional(string),
    uri: optional(string),
    flags,
  }),
  domainGetMetadata: low(
    265,
    { domain, type: i32, uri: optional(string), flags },
    { metadata: string },
  ),

  // processors
  domainSetVcpusFlags: low(199, { domain, vcpus: u32, flags }),
  domainGetVcpusFlags: low(200, onDomain, { vcpus: i32 }),
  domainSetVcpu: low(384, { domain, vcpuMap: string, state: i32, flags }),
  domainSetGuestVcpus: low(372, { domain, vcpuMap: string, state: i32, flags }),
  domainGetGuestVcpus: low(371, onDomain, { parameters }),
  domainPinVcpuFlags: low(225, { domain, vcpu: u32, cpuMap, flags }),
  domainPinEmulator: low(279, { domain, cpuMap, flags }),
  domainSetSchedulerParametersFlags: low(219, { domain, parameters, flags }),
  domainGetSchedulerParametersFlags: low(223, { domain, count: i32, flags }, { parameters }),

  // memory
  domainSetMemoryFlags: low(204, { domain, memoryKib: u64, flags }),
  domainSetMemoryStatsPeriod: low(308, { domain, periodS: i32, flags }),
  domainMemoryStats: low(
    159,
    { domain, maxStats: u32, flags },
    { stats: list(struct({ tag: i32, value: u64 }), 1_024) },
  ),
  domainSetMemoryParameters: low(197, { domain, parameters, flags }),

  // devices
  domainAttachDeviceFlags: low(160, { domain, xml: string, flags }),
  domainDetachDeviceFlags: low(161, { domain, xml: string, flags }),
  domainDetachDeviceAlias: low(392, { domain, alias: string, flags }),
  domainUpdateDeviceFlags: low(174, { domain, xml: string, flags }),
  domainAddIothread: low(355, { domain, iothread: u32, flags }),
  domainDelIothread: low(356, { domain, iothread: u32, flags }),
  domainSetIothreadParams: low(402, { domain, iothread: u32, parameters, flags }),
  domainSetInterfaceParameters: low(256, { domain, device: string, parameters, flags }),
  domainGetInterfaceParameters: low(
    257,
    { domain, device: string, count: i32, flags },
    { parameters, count: i32 },
  ),
  domainSetBlockIoTune: low(252, { domain, disk: string, parameters, flags }),
  domainGetBlockIoTune: low(
    253,
    { domain, disk: optional(string), count: i32, flags },
    { parameters, count: i32 },
  ),

  // migration
  domainMigratePerform3Params: low(
    305,
    { domain, destinationUri: optional(string), parameters: migrationParameters, cookie, flags },
    { cookie },
  ),
  domainMigrateBegin3Params: low(
    302,
    { domain, parameters: migrationParameters, flags },
    { cookie, xml: string },
  ),
  domainMigratePrepare3Params: low(
    303,
    { parameters: migrationParameters, cookie, flags },
    { cookie, uri: optional(string) },
  ),
  domainMigrateFinish3Params: low(
    306,
    { parameters: migrationParameters, cookie, flags, cancelled: bool },
    { domain, cookie },
  ),
  domainMigrateConfirm3Params: low(307, {
    domain,
    parameters: migrationParameters,
    cookie,
    flags,
    cancelled: bool,
  }),
  domainGetJobStats: low(298, onDomain, {
    type: i32,
    parameters: typedParameters(limits.jobStatsParameters),
  }),
  domainAbortJob: low(164, { domain }),
  domainAbortJobFlags: low(442, onDomain),
  domainMigrateStartPostCopy: low(364, onDomain),
  domainMigrateSetMaxDowntime: low(166, { domain, downtimeMs: u64, flags }),
  domainMigrateSetMaxSpeed: low(207, { domain, bandwidthMibps: u64, flags }),
  domainStartDirtyRateCalc: low(427, { domain, seconds: i32, flags }),

  // disks while they run
  domainBlockCopy: low(345, { ...onPath, xml: string, parameters, flags }),
  domainBlockPull: low(240, { ...onPath, bandwidthMibps: u64, flags }),
  domainBlockRebase: low(266, { ...onPath, base: optional(string), bandwidthMibps: u64, flags }),
  domainBlockCommit: low(290, {
    domain,
    disk: string,
    base: optional(string),
    top: optional(string),
    bandwidthMibps: u64,
    flags,
  }),
  domainGetBlockJobInfo: low(
    238,
    { ...onPath, flags },
    { found: bool, type: i32, bandwidth: u64, current: u64, end: u64 },
  ),
  domainBlockJobAbort: low(237, { ...onPath, flags }),
  domainBlockJobSetSpeed: low(239, { ...onPath, bandwidthMibps: u64, flags }),
  domainBlockResize: low(251, { domain, disk: string, size: u64, flags }),
  domainGetBlockInfo: low(
    194,
    { ...onPath, flags },
    { allocationBytes: u64, capacityBytes: u64, physicalBytes: u64 },
  ),
  domainSetBlockThreshold: low(386, { domain, device: string, thresholdBytes: u64, flags }),
  domainSnapshotCreateXml: low(185, { domain, xml: string, flags }, { snapshot: snapshotRef }),
  domainBackupBegin: low(421, {
    domain,
    backupXml: string,
    checkpointXml: optional(string),
    flags,
  }),

  // into the guest
  domainOpenChannel: low(296, { domain, name: optional(string), flags }),
  domainOpenConsole: low(201, { domain, device: optional(string), flags }),
  domainGetGuestInfo: low(418, { domain, types: u32, flags }, { parameters }),
  domainInterfaceAddresses: low(
    353,
    { domain, source: u32, flags },
    {
      interfaces: list(
        struct({
          name: string,
          mac: optional(string),
          addresses: list(struct({ type: i32, address: string, prefixLength: u32 }), 2_048),
        }),
        2_048,
      ),
    },
  ),
  domainFsfreeze: low(335, frozen, { filesystems: i32 }),
  domainFsthaw: low(336, frozen, { filesystems: i32 }),
  domainFstrim: low(294, { domain, mountpoint: optional(string), minimumBytes: u64, flags }),
  domainSetTime: low(338, { domain, seconds: i64, nanoseconds: u32, flags }),

  // storage
  listAllStoragePools: high(281, { needResults: i32, flags }, { pools: list(poolRef), count: u32 }),
  storagePoolLookupByName: high(84, { name: string }, { pool: poolRef }),
  storagePoolCreateXml: low(76, { xml: string, flags }, { pool: poolRef }),
  storagePoolDefineXml: high(77, { xml: string, flags }, { pool: poolRef }),
  storagePoolCreate: low(78, { pool: poolRef, flags }),
  storagePoolSetAutostart: high(90, { pool: poolRef, autostart: bool }),
  storagePoolRefresh: low(83, { pool: poolRef, flags }),
  storagePoolGetXmlDesc: high(88, { pool: poolRef, flags }, { xml: string }),
  storagePoolGetInfo: high(
    87,
    { pool: poolRef },
    { state: u32, capacityBytes: u64, allocationBytes: u64, availableBytes: u64 },
  ),
  storagePoolListAllVolumes: high(
    282,
    { pool: poolRef, needResults: i32, flags },
    { volumes: list(volumeRef), count: u32 },
  ),
  storageVolLookupByName: high(95, { pool: poolRef, name: string }, { volume: volumeRef }),
  storageVolLookupByPath: high(97, { path: string }, { volume: volumeRef }),
  storageVolCreateXml: low(93, { pool: poolRef, xml: string, flags }, { volume: volumeRef }),
  storageVolCreateXmlFrom: low(
    125,
    { pool: poolRef, xml: string, source: volumeRef, flags },
    { volume: volumeRef },
  ),
  storageVolDelete: low(94, { volume: volumeRef, flags }),
  storageVolUpload: low(208, volumeSpan),
  storageVolDownload: low(209, volumeSpan),
  storageVolResize: low(260, { volume: volumeRef, capacityBytes: u64, flags }),
  storageVolGetXmlDesc: high(99, { volume: volumeRef, flags }, { xml: string }),
  storageVolGetInfoFlags: high(
    378,
    { volume: volumeRef, flags },
    { type: i32, capacityBytes: u64, allocationBytes: u64 },
  ),

  // networks, filters, secrets
  networkCreateXml: low(40, { xml: string }, { network: networkRef }),
  networkDefineXml: high(41, { xml: string }, { network: networkRef }),
  networkLookupByName: high(46, { name: string }, { network: networkRef }),
  networkDestroy: high(42, { network: networkRef }),
  networkUpdate: high(291, {
    network: networkRef,
    command: u32,
    section: u32,
    parentIndex: i32,
    xml: string,
    flags,
  }),
  nwfilterDefineXml: high(180, { xml: string }, { filter: filterRef }),
  nwfilterUndefine: high(181, { filter: filterRef }),
  secretDefineXml: high(142, { xml: string, flags }, { secret: secretRef }),
  secretSetValue: high(144, { secret: secretRef, value: opaque(65_536), flags }),
  secretUndefine: high(146, { secret: secretRef }),
});

export const qemu = program("qemu", programs.qemu, {
  monitorCommand: low(1, { domain, command: string, flags }, { result: string }),
  agentCommand: low(
    3,
    { domain, command: string, timeoutS: i32, flags },
    { result: optional(string) },
  ),
});

/** Every procedure of every program; for tests that must see all of them. */
export const everyProcedure: readonly Procedure<unknown, unknown>[] = [
  ...Object.values<Procedure<unknown, unknown>>(remote),
  ...Object.values<Procedure<unknown, unknown>>(qemu),
];
