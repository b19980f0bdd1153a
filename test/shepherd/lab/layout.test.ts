import { defaultSites, hostOf, hostsOf, layOut, networksFor } from "@drover/shepherd/lab/layout";
import { expect, test } from "@jest/globals";

const lend = { cpuPercent: 100, memoryMib: 512, diskGib: 4 };
const fleet = (...hosts: string[]) => [
  { id: "east", owner: "eve", hosts: hosts.map((id) => ({ id, lend })) },
];

test("the default lab has three hosts at two sites, each with its own namespace, subnet and folder", () => {
  const layout = layOut({ name: "lab" }, defaultSites);
  expect(
    hostsOf(layout).map(({ id, siteId, namespace, address, folder, cgroup }) => [
      id,
      siteId,
      namespace,
      address,
      folder,
      cgroup,
    ]),
  ).toEqual([
    [
      "north-1",
      "north",
      "dl-lab-north-1",
      "10.219.1.11",
      "/var/lib/drover-lab/hosts/north-1",
      "drover-lab/north-1",
    ],
    [
      "north-2",
      "north",
      "dl-lab-north-2",
      "10.219.1.12",
      "/var/lib/drover-lab/hosts/north-2",
      "drover-lab/north-2",
    ],
    [
      "south-1",
      "south",
      "dl-lab-south-1",
      "10.219.2.11",
      "/var/lib/drover-lab/hosts/south-1",
      "drover-lab/south-1",
    ],
  ]);
});

test("labs of different names share no name, folder, cgroup and no address of the default lab", () => {
  const marks = (name: string) => {
    const layout = layOut({ name }, defaultSites);
    return [
      layout.routerNamespace,
      layout.uplink,
      layout.stateDirectory,
      layout.cgroupRoot,
      ...hostsOf(layout).map((host) => host.namespace),
    ];
  };
  const all = ["lab", "a", "ab", "lab2"].flatMap(marks);
  expect(new Set(all).size).toBe(all.length);
  expect(layOut({ name: "a" }).cidr).not.toBe(layOut({ name: "lab" }).cidr);
});

test("two names may wish for the same addresses; each may have any that is free", () => {
  expect(networksFor("ebm")[0]).toBe(networksFor("oldsh")[0]);
  const all = Array.from({ length: 120 }, (_, at) => `10.${100 + at}`);
  expect(networksFor("lab").toSorted()).toEqual(all);
  expect(networksFor("ebm").toSorted()).toEqual(all.slice(0, -1));
  expect(layOut({ name: "ebm" }, defaultSites, "10.130")).toMatchObject({
    cidr: "10.130.0.0/16",
    uplinkAddress: "10.130.0.2",
    sites: [{ cidr: "10.130.1.0/24" }, { cidr: "10.130.2.0/24" }],
  });
});

test("every interface name fits the kernel's 15 characters", () => {
  const layout = layOut({ name: "abcdef" }, fleet("a-long-host1"));
  const names = [
    layout.uplink,
    ...layout.sites.map((site) => site.bridge),
    ...hostsOf(layout).map((host) => host.port),
  ];
  expect(names.filter((name) => name.length > 15)).toEqual([]);
});

test.each([
  [
    "a lab name with a dash, which could begin another's",
    { name: "a-b" },
    fleet("h"),
    /lab name "a-b"/,
  ],
  ["a lab name that is too long", { name: "seven77" }, fleet("h"), /not 1 to 6/],
  ["a host id that no interface can carry", { name: "t" }, fleet("thirteen-char"), /not 1 to 12/],
  ["a host id with a slash", { name: "t" }, fleet("../etc"), /not 1 to 12/],
  ["the router's name", { name: "t" }, fleet("wan"), /router/],
  ["an id used twice", { name: "t" }, fleet("h", "h"), /twice/],
  ["a site without hosts", { name: "t" }, fleet(), /has 0 hosts/],
  ["no site", { name: "t" }, [], /0 sites/],
])("refuses %s", (_what, place, sites, message) => {
  expect(() => layOut(place, sites)).toThrow(message);
});

test("an unknown host is refused with the names of those there are", () => {
  expect(() => hostOf(layOut({ name: "t" }, fleet("h1", "h2")), "h3")).toThrow(
    /no host h3; it has h1, h2/,
  );
});
