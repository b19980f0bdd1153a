/**
 * A support bundle decides again elsewhere: a shepherd lives through asks of every kind, its bundle is all that is left,
 * and each decision and plan comes out the same; a changed fact or policy is told.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MachineView } from "@drover/shepherd/api/contract";
import { runCommand } from "@drover/shepherd/cli/main";
import type { Bundle, Replayed } from "@drover/shepherd/cli/replay-bundle";
import { afterAll, beforeAll, expect, jest, test } from "@jest/globals";
import { declareRing, mutate, need, run } from "../shepherd/api/shepherd.ts";
import { speakTo } from "./shepherd.ts";

jest.setTimeout(180_000);

const folder = mkdtempSync(join(tmpdir(), "drover-replay-"));
const file = join(folder, "bundle.json");
const secret = "hunter2-the-password";
let bundle: Bundle;

async function drover(...argv: string[]) {
  const out: string[] = [];
  const err: string[] = [];
  const code = await runCommand(argv, {
    out: (text) => out.push(text),
    err: (text) => err.push(text),
  });
  return { code, out: out.join(""), err: err.join("") };
}

async function replayed(text: unknown, decision?: string): Promise<readonly Replayed[]> {
  const changed = join(folder, "changed.json");
  writeFileSync(changed, JSON.stringify(text));
  const id = decision === undefined ? [] : [decision];
  const { out } = await drover("replay", changed, ...id, "--json");
  return (JSON.parse(out) as { replayed: readonly Replayed[] }).replayed;
}

beforeAll(async () => {
  const running = await run();
  const gone = running.folder;
  try {
    const { machines } = await declareRing(running, 2);
    const [one, two] = machines;
    const guest = speakTo(need(running.world.guestPort(need(one).id)).guest);
    await guest.ask("resize", {
      memory_mib: 320,
      cpu_percent: 60,
      lease_s: 600,
      reason: "a phase",
    });
    await guest.ask("resize", { cpu_percent: 6_400 });
    await guest.ask("move", { site: "south" });
    await guest.ask("release");
    await mutate<MachineView>(running, "PATCH", `/v1/machines/${need(two).id}`, {
      memory_mib: 288,
      user_data: `#cloud-config\npassword: ${secret}\n`,
      allow_restart: true,
    });
    running.world.setReachable("south-1", false);
    await guest.ask("resize", { memory_mib: 512 });
    await mutate<MachineView>(running, "DELETE", `/v1/machines/${need(two).id}`);
    const { code, err } = await drover(
      "support",
      file,
      "--snapshots",
      "50",
      "--endpoint",
      running.endpoint,
    );
    expect([code, err]).toEqual([0, ""]);
    expect(readdirSync(join(running.folder, "state", "snapshots")).length).toBeGreaterThan(6);
  } finally {
    await running.end();
  }
  // Elsewhere: neither the shepherd nor its state is there.
  expect(existsSync(gone)).toBe(false);
  bundle = JSON.parse(readFileSync(file, "utf8")) as Bundle;
}, 180_000);
afterAll(() => rmSync(folder, { recursive: true }));

test("every decision and every plan come out the same", async () => {
  const { code, out } = await drover("replay", file);
  expect([
    code,
    out.split("\n").filter((line) => !line.startsWith("same ") && line !== ""),
  ]).toEqual([0, []]);
  const all = await replayed(bundle);
  // create, resize, denied, move, release, update, silent site, destroy
  // a repair is among them when the sweep came by in between
  expect(all.map(({ kind }) => kind)).toEqual(
    expect.arrayContaining(["create", "resize", "move", "release", "update", "destroy"]),
  );
  expect(all.some(({ effect }) => effect === "deny")).toBe(true);
  expect(all.filter(({ plan }) => plan !== undefined).length).toBeGreaterThan(4);
  expect(all.some(({ plan }) => plan?.actions.includes("move_machine") === true)).toBe(true);
});

test("one is chosen by the id of its decision or its request; another id is refused", async () => {
  const moved = need(bundle.snapshots.find(({ request }) => request.kind === "move"));
  const id = need(moved.decisions.at(-1)).id;
  expect(await replayed(bundle, id)).toMatchObject([
    { kind: "move", same: true, plan: { digest: moved.plan?.digest } },
  ]);
  const other = await drover("replay", file, "no-such-id");
  expect(other).toMatchObject({ code: 1, err: expect.stringContaining("no snapshot of decision") });
});

test("no secret is in it", () => {
  const text = readFileSync(file, "utf8");
  expect(text).not.toContain(secret);
  expect(text).toMatch(/"userData": "sha256 [0-9a-f]{64}"/);
});

test("a changed fact makes another plan, and it is told which", async () => {
  const moved = need(bundle.snapshots.find(({ request }) => request.kind === "move"));
  const full = {
    ...moved,
    looks: moved.looks.map((facts) => ({
      ...facts,
      sites: facts.sites.map((site) =>
        site.id === "south"
          ? { ...site, hosts: site.hosts.map((host) => ({ ...host, freeMemoryMib: 1 })) }
          : site,
      ),
    })),
  };
  const [answer] = await replayed({ ...bundle, snapshots: [full] });
  expect(answer).toMatchObject({ same: false });
  expect(answer?.differences.join("\n")).toMatch(/the plan: there is none now/);
  expect(answer?.differences.join("\n")).toMatch(/now placement.no_host_fits/);
});

test("a missing policy is told; it denies", async () => {
  const moved = need(bundle.snapshots.find(({ request }) => request.kind === "move"));
  const policies = bundle.policies.filter(({ owner }) => owner !== "site:south");
  const [answer] = await replayed({ snapshots: [moved], policies });
  expect(answer?.same).toBe(false);
  expect(answer?.differences[0]).toBe("the policy of site:south is not in the file");
});

test.each([
  ["no JSON", "{"],
  ["another file", "{}"],
  ["another release's", JSON.stringify({ snapshots: [{ format: 99 }], policies: [] })],
])("%s is refused with what is wrong", async (_, text) => {
  const other = join(folder, "other.json");
  writeFileSync(other, text);
  const { code, err } = await drover("replay", other);
  expect([code, err]).toEqual([1, expect.stringContaining("cannot be replayed")]);
});
