/**
 * Writes test/golden/network/answer*: what a real host prints about its network before the first apply, after it with
 * the machine's tap there, and after the tap went; and how its nft prints our rules. Needs root; everything happens in
 * a network namespace. Run it when what a host is asked, or told, has changed: `node test/tools/network-answers.ts`.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { derive } from "@drover/shepherd/network/derive";
import { filterProbeText } from "@drover/shepherd/network/filters";
import { createHostNetwork } from "@drover/shepherd/shell/host-network";
import { readScript } from "@drover/shepherd/shell/read-network";
import { inNamespace, namespaceShell } from "../lab/namespaces.ts";
import { ring } from "../shepherd/network/ring.ts";

const folder = join(import.meta.dirname, "../golden/network");
const namespace = "dvanswers";
const wish = derive("north-1", ring);
const tap = wish.bridges[0]?.ports[0]?.tap ?? "";

execFileSync("ip", ["netns", "add", namespace]);
try {
  const shell = namespaceShell("north-1", namespace);
  const network = createHostNetwork(shell);
  const keep = async (name: string, script: string) =>
    writeFileSync(join(folder, name), (await shell.script(script)).stdout);
  await keep("answer-empty.txt", readScript);
  inNamespace(namespace, "ip", "tuntap", "add", "dev", tap, "mode", "tap");
  await network.apply(wish);
  await keep("answer.txt", readScript);
  inNamespace(namespace, "ip", "link", "delete", "dev", tap);
  await network.apply(wish);
  await keep("answer-without-tap.txt", readScript);
  const probe = ["nft -f - <<'END'", ...filterProbeText("probe"), "END"];
  await keep("answer-probe.json", [...probe, "nft -j list table bridge probe"].join("\n"));
} finally {
  execFileSync("ip", ["netns", "delete", namespace]);
}
