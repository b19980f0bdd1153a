/**
 * Cards and disks of a machine that runs, changed through the API, and seen from inside its guest: a card that is plugged
 * in has its address and its network, one that is taken away is gone, a volume is larger at once; the guest never restarts.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ShepherdClient } from "@drover/shepherd/api/client";
import type { MachineView, Mutation } from "@drover/shepherd/api/contract";
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { openGuest } from "@drover/shepherd/lab/guest-shell";
import { down, type Lab, up } from "@drover/shepherd/lab/lab";
import { type Shepherd, startShepherd } from "@drover/shepherd/main";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { pino } from "pino";
import { atHost } from "./hand-made-guest.ts";

const name = "jdev";
let lab: Lab;
let shepherd: Shepherd;
let client: ShepherdClient;
let lan: { readonly id: string };
let side: { readonly id: string };
let data: { readonly id: string };
let id = "";
let bootId = "";

beforeAll(async () => {
  lab = await up({ name });
  const text = readFileSync(lab.configurationFile, "utf8");
  const configuration = readConfiguration(text, lab.configurationFile);
  shepherd = await startShepherd(configuration, pino({ level: "silent" }));
  client = new ShepherdClient({ endpoint: `unix:${configuration.socket}` });
  await send("PUT", "/v1/environments/dev", { class: "batch", sites: ["north"] });
  const image = await send<{ id: string }>("PUT", "/v1/images/base", imageBody());
  const inside = "/v1/environments/dev";
  lan = await send("PUT", `${inside}/networks/lan`, { cidr: "10.42.0.0/24" });
  side = await send("PUT", `${inside}/networks/side`, { cidr: "10.43.0.0/24" });
  data = await send("PUT", `${inside}/volumes/data`, { size_gib: 1 });
  const machine = await send<MachineView>("PUT", `${inside}/machines/m`, {
    image_id: image.id,
    memory_mib: 192,
    networks: [{ network_id: lan.id }],
    disks: [{ volume_id: data.id }],
  });
  id = machine.id;
  bootId = await guest().read("cat /proc/sys/kernel/random/boot_id", { timeoutMs: 180_000 });
}, 400_000);
afterAll(async () => {
  await shepherd?.stop();
  await down({ name });
}, 60_000);

test("a card is plugged in: the guest sees it, asks for its address and reaches the network", async () => {
  const view = await recard([{ network_id: lan.id }, { network_id: side.id }]);
  const [first, second] = view.networks;
  expect(first?.address).toBe("10.42.0.10");
  expect(await virshMacs()).toEqual(view.networks.map(({ mac }) => mac));
  const device = await deviceOf(second?.mac ?? "");
  expect(await addressBy(device)).toBe(`${second?.address}/24`);
  expect((await guest().run(`ping -c 2 -W 5 -I ${device} 10.43.0.254`)).code).toBe(0);
  expect(await virshMacs("--inactive")).toEqual(await virshMacs());
}, 180_000);

test("another address is another card, and one that is not named any more is gone from guest and host", async () => {
  const before = await client.get<MachineView>(`/v1/machines/${id}`);
  const view = await recard([{ network_id: side.id, address: "10.43.0.77" }]);
  expect(view.networks).toEqual([expect.objectContaining({ address: "10.43.0.77" })]);
  const [card] = view.networks;
  expect(await macsInside()).toEqual([card?.mac]);
  expect(await virshMacs()).toEqual([card?.mac]);
  expect(before.networks.map(({ mac }) => mac)).not.toContain(card?.mac);
  expect(await addressBy(await deviceOf(card?.mac ?? ""))).toBe("10.43.0.77/24");
  expect((await guest().run("ping -c 2 -W 5 10.43.0.254")).code).toBe(0);
  // The network that it has left is carried nowhere any more.
  const bridges = await onHost("ip -br link show type bridge");
  expect(bridges.trim().split("\n")).toHaveLength(1);
}, 180_000);

test("a volume grows under its guest, which sees it at once", async () => {
  const gib = async () => Number(await guest().read("cat /sys/block/vdb/size")) / 2 ** 21;
  expect(await gib()).toBe(1);
  await send("PATCH", `/v1/volumes/${data.id}`, { size_gib: 2 });
  expect(await gib()).toBe(2);
  await expect(send("PATCH", `/v1/volumes/${data.id}`, { size_gib: 1 })).rejects.toMatchObject({
    code: "object.immutable",
  });
  expect(await guest().read("cat /proc/sys/kernel/random/boot_id")).toBe(bootId);
}, 120_000);

test("a volume that no machine has grows too, and its next machine finds it", async () => {
  await send("DELETE", `/v1/machines/${id}`);
  await send("PATCH", `/v1/volumes/${data.id}`, { size_gib: 3 });
  const info = await onHost(
    `qemu-img info $(virsh vol-path --pool drover drover-${data.id}.qcow2)`,
  );
  expect(info).toMatch(/virtual size: 3 GiB/);
}, 120_000);

function guest() {
  return openGuest(lab.layout, "drover-dev-m");
}
async function send<View>(method: "PUT" | "PATCH" | "DELETE", path: string, body?: object) {
  const answer = await client.call<Mutation<View>>(method, path, {
    ...(body === undefined ? {} : { body }),
    waitMs: 120_000,
  });
  if (answer.operation !== null) {
    const ended = await client.waitForOperation(answer.operation.id);
    if (ended.state !== "succeeded") throw new Error(JSON.stringify(ended));
  }
  return answer.object as View;
}
async function recard(networks: readonly object[]): Promise<MachineView> {
  await send("PATCH", `/v1/machines/${id}`, { networks });
  const view = await client.get<MachineView>(`/v1/machines/${id}`);
  expect(await guest().read("cat /proc/sys/kernel/random/boot_id")).toBe(bootId);
  return view;
}
async function macsInside(): Promise<readonly string[]> {
  return (await guest().read("cat /sys/class/net/eth*/address")).trim().split("\n");
}
/** The guest's kernel may need a moment to name a card that was just plugged in. */
async function deviceOf(mac: string): Promise<string> {
  return await guest().read(
    `while ! grep -l ${mac} /sys/class/net/*/address; do sleep 0.2; done | cut -d/ -f5`,
    { timeoutMs: 60_000 },
  );
}
async function addressBy(device: string): Promise<string> {
  return await guest().read(
    `ip link set ${device} up && udhcpc -i ${device} -s /etc/udhcpc -n -q -t 20 >/dev/null 2>&1; ip -o -4 address show dev ${device} | awk '{print $4}'`,
    { timeoutMs: 90_000 },
  );
}
function onHost(text: string): Promise<string> {
  return atHost(name, "north-1", ["sh", "-c", text]);
}
async function virshMacs(option = ""): Promise<readonly string[]> {
  const said = await onHost(`virsh domiflist drover-dev-m ${option}`);
  return [...said.matchAll(/([0-9a-f]{2}:){5}[0-9a-f]{2}/g)].map(([mac]) => mac);
}
function imageBody() {
  const file = (what: string) => join(lab.imageDirectory, what);
  return {
    source: file("base.qcow2"),
    sha256: createHash("sha256")
      .update(readFileSync(file("base.qcow2")))
      .digest("hex"),
    kernel: file("kernel"),
    initrd: file("initrd"),
    cmdline: "console=ttyS0 quiet",
  };
}
