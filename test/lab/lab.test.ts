/**
 * The lab itself: real hosts that share nothing, guests that boot, and what is left after a kill and after `down`.
 * Guests here are made by hand with virsh; no shepherd is involved. Needs root.
 */
import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeStatus, labStatus } from "@drover/shepherd/lab/commands";
import { type GuestShell, openGuest } from "@drover/shepherd/lab/guest-shell";
import { adoptProcess, down, type Lab, status, up } from "@drover/shepherd/lab/lab";
import { hostsOf, networksFor } from "@drover/shepherd/lab/layout";
import { must, run, waitFor } from "@drover/shepherd/lab/process";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { atHost, placeGuest, startGuest } from "./hand-made-guest.ts";

const name = "jlab";

describe("a lab that is up", () => {
  let lab: Lab;
  let left: GuestShell;
  let right: GuestShell;
  const [usual] = networksFor(name);
  const foreign = ["blackhole", `${usual}.250.0/24`];

  beforeAll(async () => {
    await must(["ip", "route", "replace", ...foreign]);
    lab = await up({ name });
    await startGuest(name, "north-1", { name: "left", address: "10.42.0.10" });
    await startGuest(name, "north-1", { name: "right", address: "10.42.0.11" });
    left = openGuest(lab.layout, "left");
    right = openGuest(lab.layout, "right");
  });
  afterAll(async () => {
    await down({ name });
    await run(["ip", "route", "delete", ...foreign]);
  });

  test("has other addresses where the machine routes its usual ones elsewhere", () => {
    expect(networksFor(name).map((network) => `${network}.0.0/16`)).toContain(lab.layout.cidr);
    expect(lab.layout.cidr).not.toBe(`${usual}.0.0/16`);
    expect(hostsOf(lab.layout).filter(({ address }) => address.startsWith(`${usual}.`))).toEqual(
      [],
    );
  });

  test("says so, with its machines", () => {
    expect(describeStatus(labStatus({ name }))).toMatch(
      /^lab jlab: up; .*\n {2}north +north-1 +\S+ +left, right\n/,
    );
  });

  test("every host is reached over SSH with the key that drover.yaml names, and is a host of its own", async () => {
    const key = [
      "-i",
      join(lab.layout.stateDirectory, "ssh/id_ed25519"),
      "-o",
      `UserKnownHostsFile=${join(lab.layout.stateDirectory, "ssh/known_hosts")}`,
    ];
    const seen = [];
    for (const host of hostsOf(lab.layout)) {
      const said = await must([
        "ssh",
        "-F",
        "/dev/null",
        ...key,
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "BatchMode=yes",
        `root@${host.address}`,
        "hostname; virsh -q pool-list --name; ls /sys/class/net | tr '\\n' ' '",
      ]);
      seen.push(
        said
          .trim()
          .split("\n")
          .map((line) => line.trim()),
      );
    }
    expect(seen.map(([hostname, pool]) => [hostname, pool])).toEqual([
      ["north-1", "drover"],
      ["north-2", "drover"],
      ["south-1", "drover"],
    ]);
    expect(seen[1]?.at(-1)).toBe("lo uplink");
    const uuids = await Promise.all(
      hostsOf(lab.layout).map((host) =>
        atHost(name, host.id, [
          "sh",
          "-c",
          "virsh capabilities | sed -n 's/.*<uuid>//p' | head -1; readlink /proc/self/ns/mnt /proc/self/ns/cgroup",
        ]),
      ),
    );
    expect(new Set(uuids.flatMap((text) => text.trim().split("\n"))).size).toBe(9);
  });

  test("guests boot, see each other, and have their disk", async () => {
    expect(await left.read("cat /proc/sys/kernel/hostname")).toBe("left");
    expect(await left.read("ping -c 1 -W 5 10.42.0.11 | grep -c 'bytes from'")).toBe("1");
    expect(await left.read("cd /work && sha256sum -c seed.sha256")).toBe("seed.bin: OK");
  });

  test("commands in a guest give their exit code and whole output, several at once", async () => {
    const [fails, speaks, large] = await Promise.all([
      left.run("echo no; exit 7"),
      left.run("sleep 1; echo yes >&2"),
      left.run("head -c 300000 /dev/zero | tr '\\0' x"),
    ]);
    expect([fails, speaks, large.stdout.length]).toEqual([
      { code: 7, stdout: "no\n" },
      { code: 0, stdout: "yes\n" },
      300_000,
    ]);
  });

  test("the ring runs over the guests' network, and its checksums do not change from run to run", async () => {
    const runRing = async () => {
      const outputs = await Promise.all(
        [left, right].map((guest, rank) =>
          guest.read(`ring -i 5 -m 4 ${rank} 10.42.0.10 10.42.0.11`),
        ),
      );
      return outputs.map((text) => /connections 2 broken 0 checksum (\S+)$/.exec(text)?.[1]);
    };
    const first = await runRing();
    expect(first).toEqual([expect.any(String), expect.any(String)]);
    expect(await runRing()).toEqual(first);
  });

  test("a ring whose peer dies ends with an error instead of connecting again", async () => {
    const [survivor] = await Promise.all([
      left.run("ring -i 100000 0 10.42.0.10 10.42.0.11"),
      right.run("timeout 3 ring -i 100000 1 10.42.0.10 10.42.0.11"),
    ]);
    expect(survivor).toEqual({ code: 1, stdout: expect.stringMatching(/neighbour/) });
  });

  test("a hot-added vCPU comes online by itself, and the balloon changes what the guest has", async () => {
    const before = Number(await left.read("awk '/MemTotal/{print $2}' /proc/meminfo"));
    await atHost(name, "north-1", ["virsh", "setvcpus", "left", "2", "--live"]);
    await atHost(name, "north-1", ["virsh", "setmem", "left", "320M", "--live"]);
    expect(
      await waitFor(
        async () =>
          (await left.read("cat /sys/devices/system/cpu/online")) === "0-1" ? true : undefined,
        { timeoutMs: 10_000 },
      ),
    ).toBe(true);
    expect(
      await waitFor(
        async () =>
          Number(await left.read("awk '/MemTotal/{print $2}' /proc/meminfo")) > before + 100_000
            ? true
            : undefined,
        { timeoutMs: 10_000 },
      ),
    ).toBe(true);
  });

  test("a CPU cap is real: the guest's own loop slows down", async () => {
    const cap = async (quota: number) =>
      await atHost(name, "north-1", [
        "virsh",
        "schedinfo",
        "right",
        "--live",
        "--set",
        `global_quota=${quota}`,
      ]);
    const free = Number(await right.read("speed 3000"));
    await cap(5_000); // a twentieth of a core, so that other work on this machine cannot hide it
    const capped = Number(await right.read("speed 3000"));
    await cap(100_000);
    expect(capped).toBeLessThan(free / 2);
  });

  test("the ticker sees a stop that the guest's own clock does not", async () => {
    await waitFor(
      async () =>
        Number((await right.read("cat /run/ticker")).split(" ")[4]) > 5 ? true : undefined,
      { timeoutMs: 20_000, everyMs: 500 },
    );
    await right.read("touch /run/ticker.reset; sleep 1");
    await atHost(name, "north-1", [
      "sh",
      "-c",
      "virsh -q suspend right; sleep 1; virsh -q resume right",
    ]);
    await right.read("sleep 6");
    const [gapMs = 0, stopMs = 0] = (await right.read("cat /run/ticker")).split(" ").map(Number);
    expect(stopMs).toBeGreaterThan(850);
    expect(gapMs).toBeLessThan(stopMs);
  });

  test("drover-guest finds its port, and says that no shepherd is there", async () => {
    expect(await right.run("drover-guest status --wait 2")).toEqual({
      code: 75,
      stdout:
        "drover-guest: no shepherd answers: /dev/virtio-ports/dev.drover.0 stayed silent for 2 s\n",
    });
  });

  test("a running command's answer follows the machine to another site", async () => {
    await left.read("dd if=/dev/urandom of=/work/fresh bs=1M count=8 2>/dev/null; sync");
    const before = await left.read("cat /proc/sys/kernel/random/boot_id; sha256sum /work/fresh");
    const slow = left.run("sleep 8; echo still here", { timeoutMs: 100_000 });
    await placeGuest(name, "south-1", "left");
    const address = hostsOf(lab.layout)[2]?.address ?? "";
    const key = join(lab.layout.stateDirectory, "ssh/id_ed25519");
    await atHost(name, "north-1", [
      "virsh",
      "migrate",
      "--live",
      "--p2p",
      "--copy-storage-inc",
      "--unsafe",
      "left",
      `qemu+ssh://root@${address}/system?keyfile=${key}&no_verify=1`,
      `tcp://${address}`,
    ]);
    expect(left.host()).toBe("south-1");
    expect(await slow).toEqual({ code: 0, stdout: "still here\n" });
    expect(await left.read("cat /proc/sys/kernel/random/boot_id; sha256sum /work/fresh")).toBe(
      before,
    );
  });
});

describe("what is left", () => {
  const place = { name: "jkill" };
  const states = "/var/lib/drover-jkill";
  const remains = async () => ({
    namespaces: readdirSync("/run/netns").filter((entry) => entry.startsWith("dl-jkill-")),
    links: readdirSync("/sys/class/net").filter((entry) => entry === "dl-jkill"),
    cgroups: readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .flatMap((line) =>
        line.includes(" - cgroup") ? [join(line.split(" ")[4] ?? "", "drover-jkill")] : [],
      )
      .filter((folder) => existsSync(folder)),
    mounts: readFileSync("/proc/mounts", "utf8")
      .split("\n")
      .filter((line) => line.includes(states)),
    folder: existsSync(states),
    routes: (await run(["ip", "route"])).stdout
      .split("\n")
      .filter((line) => line.includes("dl-jkill")),
    processes: (await run(["ps", "-eo", "args"])).stdout
      .split("\n")
      .filter((line) => line.includes(`${states}/`)),
  });
  const nothing = {
    namespaces: [],
    links: [],
    cgroups: [],
    mounts: [],
    folder: false,
    routes: [],
    processes: [],
  };

  /** `up` in a process of its own that is killed with SIGKILL as soon as it has said a line like this. */
  async function killedUp(line: RegExp): Promise<void> {
    const program = `const { up } = await import(${JSON.stringify(join(import.meta.dirname, "../../shepherd/lab/lab.ts"))}); await up({ name: "jkill", onProgress: console.log });`;
    const child = spawn("node", ["--input-type=module-typescript", "-e", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let text = "";
    child.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      if (line.test(text)) child.kill("SIGKILL");
    });
    await new Promise((resolve) => child.on("close", resolve));
    expect(text).toMatch(line);
  }

  afterAll(async () => {
    await down(place);
  });

  test("`down` after a whole lab with a running guest leaves nothing, and a second `down` finds nothing", async () => {
    await up(place);
    await startGuest("jkill", "south-1", { name: "lonely", address: "10.42.0.10" });
    expect((await down(place)).processes).toBeGreaterThan(9);
    expect(await remains()).toEqual(nothing);
    expect(await down(place)).toEqual({ processes: 0, namespaces: 0, folder: false });
  });

  test.each([
    ["while the wires are laid", /wires: /],
    ["while hosts start", /host \S+ at/],
    ["at the end", /configuration: /],
  ])("`up` killed %s: the next `up` stands, and `down` leaves nothing", async (_when, line) => {
    await killedUp(line);
    await up(place);
    expect(status(place).state).toBe("up");
    await down(place);
    expect(await remains()).toEqual(nothing);
  });

  test("a guest that survived a killed owner is gone after the next `up`", async () => {
    await up(place);
    await startGuest("jkill", "north-1", { name: "orphan", address: "10.42.0.10" });
    await up(place); // as after a killed demo: nobody ended anything
    expect(Object.values(labStatus(place).machines).flat()).toEqual([]);
    expect((await remains()).processes.filter((line) => line.includes("qemu"))).toEqual([]);
    await down(place);
  });

  test("a process that was adopted ends with the lab; one whose pid is another's by now does not", async () => {
    await up(place);
    const shepherd = spawn("sleep", ["60"], { stdio: "ignore" });
    const stranger = spawn("sleep", ["60"], { stdio: "ignore" });
    adoptProcess({ ...place, pid: shepherd.pid ?? 0 });
    adoptProcess({ ...place, pid: stranger.pid ?? 0 });
    const file = join(states, "lab.json");
    const written = JSON.parse(readFileSync(file, "utf8")) as {
      processes: { pid: number; startTicks: string }[];
    };
    for (const one of written.processes) if (one.pid === stranger.pid) one.startTicks = "1";
    writeFileSync(file, JSON.stringify(written));
    const ended = new Promise((resolve) =>
      shepherd.on("close", (_code, signal) => resolve(signal)),
    );
    await down(place);
    expect(await ended).toBe("SIGKILL");
    expect(stranger.signalCode).toBeNull();
    stranger.kill("SIGKILL");
  });

  test("a folder that is no lab's is left alone", async () => {
    const folder = mkdtempSync(join(tmpdir(), "drover-foreign-"));
    writeFileSync(join(folder, "precious"), "data");
    await expect(up({ ...place, stateDirectory: folder })).rejects.toMatchObject({
      code: "lab.state_directory_foreign",
    });
    await expect(down({ ...place, stateDirectory: folder })).rejects.toMatchObject({
      code: "lab.state_directory_foreign",
    });
    expect(readFileSync(join(folder, "precious"), "utf8")).toBe("data");
    rmSync(folder, { recursive: true });
  });

  test("namespaces and processes of others, even with a similar name, survive", async () => {
    await must(["ip", "netns", "add", "dl-jkill2-x"]);
    const stranger = spawn("nsenter", ["--net=/run/netns/dl-jkill2-x", "sleep", "60"], {
      stdio: "ignore",
    });
    mkdirSync("/var/lib/drover-jkill2", { recursive: true });
    try {
      await up(place);
      await down(place);
      expect({
        alive: stranger.exitCode === null && stranger.signalCode === null,
        namespace: existsSync("/run/netns/dl-jkill2-x"),
        folder: existsSync("/var/lib/drover-jkill2"),
      }).toEqual({ alive: true, namespace: true, folder: true });
    } finally {
      stranger.kill("SIGKILL");
      await must(["ip", "netns", "delete", "dl-jkill2-x"]);
      rmSync("/var/lib/drover-jkill2", { recursive: true });
    }
  });

  test("two commands cannot change one lab at once", async () => {
    const first = up(place);
    await expect(up(place)).rejects.toMatchObject({ code: "lab.busy" });
    await first;
    await down(place);
  });
});
