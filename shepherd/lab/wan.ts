/**
 * The wide-area network of a lab: what a path between two sites is like (round trip, rate, loss, cut) and the commands
 * of ip and tc that make it so. Pure text: the same qdiscs run on the bridges of this machine's kernel where it has
 * netem, else on the cards of the router guest (lab/wan-router.ts); both are real netem.
 */
import type { LabLayout, SiteLayout } from "#lab/layout";
import { Fault } from "#model/fault";

/** Two sites and what lies between them; the same in both directions. */
export interface WanPath {
  /** Sorted. */
  readonly sites: readonly [string, string];
  /** Added to what the wires of the machine take; half of it in each direction. */
  readonly rttMs: number;
  /** Of each direction, in frames as the hosts send them. 0: as fast as it goes. */
  readonly rateMbps: number;
  /** Frames lost in each direction, at random. */
  readonly lossPercent: number;
  /** Nothing passes, and nobody is told: as when a fibre is cut. */
  readonly cut: boolean;
}
/** What shapes: this machine's own kernel, or a guest with a stock kernel. Every result names it. */
export type WanDriver = "kernel" | "router-guest";

/** The range; beyond it a lab on one machine tells nothing. */
const maxRttMs = 150;
const minRateMbps = 10;
const maxRateMbps = 1000;
const maxLossPercent = 50;

/** Reads `north:south=50ms,200mbit,1%` (any of the three, in any order). Fault `lab.wan_invalid`. */
export function parseWan(text: string): WanPath {
  const refuse = (problem: string): never => {
    throw new Fault("lab.wan_invalid", { text, problem });
  };
  const match = /^([a-z][a-z0-9-]*):([a-z][a-z0-9-]*)(?:=(.*))?$/.exec(text);
  if (match === null) return refuse("it is not SITE:SITE=50ms,200mbit,1%");
  const [, left = "", right = "", values = ""] = match;
  if (left === right) refuse(`${left} needs no way to itself`);
  const path = { rttMs: 0, rateMbps: 0, lossPercent: 0, cut: false };
  const within = (value: number, [min, max]: readonly [number, number], what: string): number =>
    value >= min && value <= max ? value : refuse(`${what} is not within ${min} to ${max}`);
  for (const value of values.split(",").filter((part) => part !== "")) {
    const [, number = "", unit = ""] = /^(\d+(?:\.\d+)?)(ms|mbit|gbit|%)$/.exec(value) ?? [];
    const amount = Number(number);
    if (value === "cut") path.cut = true;
    else if (unit === "ms") path.rttMs = within(amount, [0, maxRttMs], `${value} round trip`);
    else if (unit === "mbit" || unit === "gbit")
      path.rateMbps = within(
        amount * (unit === "gbit" ? 1000 : 1),
        [minRateMbps, maxRateMbps],
        `${value} in Mbit/s`,
      );
    else if (unit === "%") path.lossPercent = within(amount, [0, maxLossPercent], `${value} loss`);
    else refuse(`${value} is none of 50ms, 200mbit, 1%, cut`);
  }
  return { ...path, sites: sorted(left, right) };
}

/** One path as it is written on a command line and in results. */
export function describeWan(path: WanPath): string {
  const values = [
    path.cut ? "cut" : "",
    `${path.rttMs}ms`,
    path.rateMbps === 0 ? "" : `${path.rateMbps}mbit`,
    path.lossPercent === 0 ? "" : `${path.lossPercent}%`,
  ];
  return `${path.sites.join(":")}=${values.filter((value) => value !== "").join(",")}`;
}

/** Every pair of sites: as `asked` says, else plain. Fault `lab.wan_invalid` for a site there is not, or a pair named twice. */
export function completePaths(layout: LabLayout, asked: readonly WanPath[]): readonly WanPath[] {
  const ids = layout.sites.map((site) => site.id);
  const byPair = new Map<string, WanPath>();
  for (const path of asked) {
    const text = describeWan(path);
    const unknown = path.sites.find((id) => !ids.includes(id));
    if (unknown !== undefined)
      throw new Fault("lab.wan_invalid", {
        text,
        problem: `there is no site ${unknown}; there are ${ids.join(", ")}`,
      });
    if (byPair.has(path.sites.join(":")))
      throw new Fault("lab.wan_invalid", { text, problem: "the pair is named twice" });
    byPair.set(path.sites.join(":"), path);
  }
  return ids.flatMap((left, index) =>
    ids.slice(index + 1).map((right) => {
      const sites = sorted(left, right);
      const plain = { sites, rttMs: 0, rateMbps: 0, lossPercent: 0, cut: false };
      return byPair.get(sites.join(":")) ?? plain;
    }),
  );
}

/** What `tc` calls "no limit": more than any lab carries. */
const unlimitedMbps = 100_000;
/** A router's buffer: as much as it sends in this time, beside what is on its way. */
const bufferMs = 100;
const leastQueueFrames = 1_000;
const frameBytes = 1_500;
const burstBytes = 65_536;

/**
 * Batch lines for tc that shape what leaves towards one site: a class for each other site, told by its addresses, with
 * netem in it. `first` makes them, otherwise they are changed in place: nothing that is on its way is lost.
 */
export function wanQdiscs(request: {
  readonly device: string;
  readonly site: SiteLayout;
  readonly layout: LabLayout;
  readonly paths: readonly WanPath[];
  readonly first: boolean;
}): readonly string[] {
  const { device, site, layout, paths, first } = request;
  const lines = first ? [`qdisc replace dev ${device} root handle 1: htb default 0`] : [];
  for (const [index, other] of layout.sites.entries()) {
    const path = paths.find(({ sites }) => sites.includes(site.id) && sites.includes(other.id));
    if (other.id === site.id || path === undefined) continue;
    const minor = (0x10 + index).toString(16);
    const rateMbps = path.rateMbps === 0 ? unlimitedMbps : path.rateMbps;
    const delayMs = path.rttMs / 2;
    const framesOnTheWay = (rateMbps * 125 * (delayMs + bufferMs)) / frameBytes;
    const limit = Math.max(
      leastQueueFrames,
      Math.ceil(path.rateMbps === 0 ? (delayMs * maxRateMbps * 125) / frameBytes : framesOnTheWay),
    );
    const loss = path.cut ? 100 : path.lossPercent;
    const kind = first ? "add" : "change";
    lines.push(
      `class ${kind} dev ${device} parent 1: classid 1:${minor} htb rate ${rateMbps}mbit ceil ${rateMbps}mbit burst ${burstBytes} cburst ${burstBytes} quantum 60000`,
      `qdisc ${kind} dev ${device} parent 1:${minor} handle ${minor}: netem limit ${limit} delay ${delayMs * 1000}us loss ${loss}%`,
    );
    if (first)
      lines.push(
        `filter add dev ${device} parent 1: protocol ip pref ${0x10 + index} u32 match ip src ${other.cidr} flowid 1:${minor}`,
      );
  }
  return lines;
}

/** True when a frame of its own must be lost or kept, not a burst of forty: hosts then send no joined segments. */
export function needsSingleFrames(paths: readonly WanPath[]): boolean {
  return paths.some((path) => path.lossPercent > 0);
}

function sorted(left: string, right: string): readonly [string, string] {
  return left < right ? [left, right] : [right, left];
}
