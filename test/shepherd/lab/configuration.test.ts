import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { configurationOf } from "@drover/shepherd/lab/configuration";
import { hostsOf, layOut } from "@drover/shepherd/lab/layout";
import { expect, test } from "@jest/globals";

test("the drover.yaml of a lab is one that the shepherd reads, with every host's address, key and lend", () => {
  const layout = layOut({ name: "lab" });
  const hostKeys = new Map(
    hostsOf(layout).map((host, index) => [host.id, `ssh-ed25519 AAAA${index}`]),
  );
  const text = configurationOf({
    layout,
    hostKeys,
    stacks: [{ environment: "ring", directory: "/tmp/ring" }],
    listen: "127.0.0.1:8420",
  });
  const read = readConfiguration(text, "/var/lib/drover-lab/drover.yaml");
  expect({
    world: read.world,
    state: read.stateDirectory,
    socket: read.socket,
    listen: read.listen,
    stacks: read.stacks,
  }).toEqual({
    world: "libvirt",
    state: "/var/lib/drover-lab/shepherd",
    socket: "/var/lib/drover-lab/shepherd.sock",
    listen: { host: "127.0.0.1", port: 8420 },
    stacks: [{ environment: "ring", directory: "/tmp/ring", gitCommit: false }],
  });
  expect(read.sites.map((site) => [site.id, site.owner, site.peerMigration])).toEqual([
    ["north", "north-lab", false],
    ["south", "south-lab", false],
  ]);
  expect(
    read.sites
      .flatMap((site) => site.hosts)
      .map((host) => [
        host.id,
        host.ssh?.address,
        host.ssh?.hostKey,
        host.migrationAddress,
        host.lend,
        host.channels,
      ]),
  ).toEqual(
    hostsOf(layout).map((host, index) => [
      host.id,
      host.address,
      `ssh-ed25519 AAAA${index}`,
      host.address,
      host.lend,
      ["dev.drover.lab"],
    ]),
  );
});
