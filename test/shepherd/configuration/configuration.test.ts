/** drover.yaml: what is read, what is defaulted, and how a mistake is told. */
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { Fault } from "@drover/shepherd/model/fault";
import { expect, test } from "@jest/globals";

const whole = `world: simulated
policies:
  operator: policies/main
  owners: { alice: policies/alice }
sites:
  - id: north
    owner: norma
    policy: policies/north
    hosts:
      - id: north-1
        migration_address: 10.1.0.1
        lend: { cpu_percent: 400, memory_mib: 4096, disk_gib: 20 }
`;

test("a short file is read with its defaults, paths from its own folder", () => {
  expect(readConfiguration(whole, "/etc/drover/drover.yaml")).toEqual({
    file: "/etc/drover/drover.yaml",
    world: "simulated",
    stateDirectory: "/var/lib/drover",
    socket: "/run/drover/shepherd.sock",
    listen: undefined,
    tls: undefined,
    stacks: [],
    sites: [
      {
        id: "north",
        owner: "norma",
        policy: "/etc/drover/policies/north",
        tunnelAddress: undefined,
        depot: undefined,
        rawXmlPaths: [],
        peerMigration: false,
        hosts: [
          {
            id: "north-1",
            siteId: "north",
            pool: "drover",
            migrationAddress: "10.1.0.1",
            lend: { cpuPercent: 400, memoryMib: 4096, diskGib: 20 },
            ssh: undefined,
            libvirtSocket: undefined,
            acceleration: "tcg",
            channels: [],
          },
        ],
      },
    ],
    policies: {
      operator: "/etc/drover/policies/main",
      owners: { alice: "/etc/drover/policies/alice" },
    },
    tokens: [],
    clearPairs: [],
    encryptMoves: true,
    maxFactAgeMs: 120_000,
    keptSnapshots: 200,
    breakGlass: { publicKeyFiles: [] },
    simulatedSpeed: 1,
  });
});

test.each<[string, string, string, number, string]>([
  [
    "an unknown key names the nearest one",
    "world: simulated",
    "worlds: simulated",
    1,
    "unknown key worlds; did you mean world?",
  ],
  [
    "a unit that is not ours names the right key",
    "memory_mib: 4096",
    "memory_gib: 4",
    12,
    "unknown key memory_gib in sites[0].hosts[0].lend; did you mean memory_mib?",
  ],
  [
    "an amount with its unit in it is told the number",
    "memory_mib: 4096",
    "memory_mib: 4GiB",
    12,
    'sites[0].hosts[0].lend.memory_mib must be a whole number of MiB, but is "4GiB"; write memory_mib: 4096',
  ],
  [
    "a fraction is no amount",
    "cpu_percent: 400",
    "cpu_percent: 0.5",
    12,
    "sites[0].hosts[0].lend.cpu_percent must be a whole number of percent of one core, but is 0.5",
  ],
  ["a missing key", "    owner: norma\n", "", 6, "sites[0] lacks the key owner"],
  [
    "an address that is none",
    "10.1.0.1",
    "north.example",
    11,
    "sites[0].hosts[0].migration_address: north.example is not an IP address",
  ],
  [
    "a real host without a way to it",
    "world: simulated",
    "world: libvirt",
    1,
    "host north-1 lacks the key ssh",
  ],
  [
    "tokens in the clear",
    "world: simulated",
    'world: simulated\nlisten: "0.0.0.0:8420"',
    1,
    "listen on 0.0.0.0 needs tls: tokens would cross the network in the clear",
  ],
])("%s", (_, before, after, line, problem) => {
  const text = whole.replace(before, after);
  expect(text).not.toBe(whole);
  const fault = faultOf(() => readConfiguration(text, "/etc/drover/drover.yaml"));
  expect({
    code: fault.code,
    line: fault.details["line"],
    problem: fault.details["problem"],
  }).toEqual({
    code: "config.invalid",
    line,
    problem,
  });
});

test("all problems of a file are told at once", () => {
  const fault = faultOf(() =>
    readConfiguration(
      whole.replace("owner: norma", "owners: norma").replace("10.1.0.1", "x"),
      "f.yaml",
    ),
  );
  expect(fault.details["problems"]).toHaveLength(3);
});

function faultOf(work: () => unknown): Fault {
  try {
    work();
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}
