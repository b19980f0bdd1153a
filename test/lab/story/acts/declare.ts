/** Acts 0 and 1: a neighbour of another owner lives here already; then the ring is declared. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { until } from "../process.ts";
import type { Story } from "../story.ts";
import { address, guestsOf, ringMachines } from "./measuring.ts";

export async function settleNeighbour(story: Story): Promise<void> {
  const { timeline, world } = story;
  mkdirSync(story.neighbour.directory, { recursive: true });
  const sha256 = await import("node:crypto").then(async ({ createHash }) =>
    createHash("sha256")
      .update((await import("node:fs")).readFileSync(join(world.imageDirectory, "base.qcow2")))
      .digest("hex"),
  );
  writeFileSync(
    join(story.neighbour.directory, "main.tf"),
    `terraform {
  required_providers {
    drover = { source = "drover.dev/drover/drover" }
  }
}
resource "drover_environment" "neighbour" {
  name  = "neighbour"
  owner = "bob"
  class = "batch"
  sites = ["north"]
}
resource "drover_network" "lan" {
  environment_id = drover_environment.neighbour.id
  name           = "lan"
  cidr           = "10.42.0.0/24"
}
resource "drover_image" "neighbour" {
  name    = "neighbour"
  source  = "${world.imageDirectory}/base.qcow2"
  sha256  = "${sha256}"
  kernel  = "${world.imageDirectory}/kernel"
  initrd  = "${world.imageDirectory}/initrd"
  cmdline = "console=ttyS0 quiet"
}
resource "drover_machine" "solo" {
  environment_id = drover_environment.neighbour.id
  name           = "solo"
  image_id       = drover_image.neighbour.id
  cpu_percent    = 20
  memory_mib     = 1010
  site           = "north"
  networks       = [{ network_id = drover_network.lan.id, address = "${address("rank-0")}" }]
  adaptation     = { mode = "approve", cpu_percent = { min = 10, max = 60 }, memory_mib = { min = 192, max = 1010 } }
}
`,
  );
  await story.neighbour.init();
  const applied = await story.neighbour.run(["apply", "-auto-approve"]);
  timeline.check(
    "bob's environment `neighbour` is built by terraform apply, with the ring's CIDR and rank-0's address",
    applied.code === 0,
    applied.code === 0 ? undefined : applied.stdout + applied.stderr,
  );
  timeline.check(
    "it lives at north-2",
    (await story.hostsOf("solo", "neighbour")).join() === "north-2",
  );
}

export async function declare(story: Story): Promise<void> {
  const { timeline, world } = story;
  await story.synthesize();
  timeline.say("the stack is synthesized; plain terraform from here");
  await story.ring.init();
  const applied = await story.ring.run(["apply", "-auto-approve"]);
  timeline.check(
    "terraform apply builds environment `ring`",
    applied.code === 0,
    applied.code === 0 ? `${(applied.ms / 1000).toFixed(1)} s` : applied.stdout + applied.stderr,
  );
  for (const machine of ringMachines) {
    const hosts = await story.hostsOf(machine);
    timeline.check(`${machine} runs once`, hosts.length === 1, hosts.join());
  }
  timeline.check("the LAN spans both owners", (await story.hostsOf("rank-1")).join() === "south-1");
  const guests = guestsOf(story);
  if (guests === undefined) return;

  await Promise.all(
    ringMachines.map((machine) =>
      until(
        `${machine} to boot`,
        90_000,
        async () => (await guests(machine).run("true")).code === 0 || undefined,
      ),
    ),
  );
  const solo = world.guest("solo", "neighbour");
  const before = Number(await solo?.read("cat /sys/class/net/eth0/statistics/rx_packets"));
  const pinged = await Promise.all(
    ringMachines.map(async (machine) => {
      const peers = ringMachines.filter((peer) => peer !== machine).map(address);
      const { stdout } = await guests(machine).run(
        peers.map((peer) => `ping -c 1 -W 3 ${peer} >/dev/null && echo ok`).join("; "),
      );
      return stdout.split("\n").filter((line) => line === "ok").length;
    }),
  );
  timeline.check("all 12 pairs ping", pinged.join() === "3,3,3,3", pinged.join());
  const lonely = await solo?.run(`ping -c 2 -W 1 ${address("rank-1")}`);
  timeline.check("neighbour's machine reaches none of the ring", lonely?.code !== 0);
  const after = Number(await solo?.read("cat /sys/class/net/eth0/statistics/rx_packets"));
  timeline.check(
    "no frame of the ring has come to neighbour's machine",
    after === before,
    `${after - before} frames`,
  );

  const { code, ms } = await story.ring.plan();
  timeline.check("a second plan has nothing to do", code === 0);
  timeline.figure("plan without a change, this stack", `${(ms / 1000).toFixed(2)} s`);
}
