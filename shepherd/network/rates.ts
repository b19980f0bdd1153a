/**
 * Link rates on a tap, both directions: towards the guest by htb on the tap itself, from the guest by redirecting its
 * frames at the tap's ingress to an ifb device with the same htb. Frames are told apart by the peer's MAC (flower, or u32 where the kernel has none); a link
 * with the network itself takes what is left. What no link names passes unshaped (htb's direct queue; never redirected). Pure; the commands are tc's.
 * Behind one door (`diffRates`), so that another driver (fq_codel leaves) can take its place on other kernels.
 */
import type { Changes } from "#network/changes";
import { shaperName } from "#network/names";
import type {
  Classifier,
  FrameMatch,
  ObservedLink,
  ObservedSelector,
  ObservedShaping,
} from "#network/observed";
import type { PortConfig } from "#ports/host-network";

/** Major number of our htb, by which a person knows it: `tc class show dev dvt…` prints `d0:…`. */
export const htbMajor = 0xd0;
/**
 * Class minors start here: below `ffff:` (ingress) and away from `d0:`, because a class's queue carries the same number
 * as its handle, and a filter as its preference.
 */
const firstMinor = 0x1000;
const minorCount = 0x4000;
/** The link with the network itself: after all peers, so that its filter, which takes every frame, is asked last. */
const networkMinor = firstMinor + minorCount;
/** At least one full GSO packet must pass at once, and two milliseconds of the rate, within which a timer may fire late. */
const leastBurstBytes = 65_536;
const burstMs = 2;
/** A queue holds what the link sends in this time: enough for TCP over a WAN, and no more wait than that. */
const queueMs = 50;
/**
 * With latency `low`. A queue takes a batch of segments whole or not at all: one that holds less than the largest batch
 * (64 KiB and the headers of its segments) loses most of what TCP sends, and the link carries a half of its promise.
 */
const lowLatencyQueueMs = 5;
const leastLowLatencyQueueBytes = 73_728;
const leastQueueBytes = 131_072;
/** Below the kernel's warning of a big quantum; only one class of a device is a leaf for a frame, so fairness does not hang on it. */
const quantumBytes = 60_000;
const burstTolerance = 0.05;
const burstToleranceBytes = 2_048;
const ethernetHeaderBytes = 14;
/** IPv4 20 + TCP 20 + timestamps 12. */
const tcpHeaderBytes = 52;

/**
 * The rate that htb is given so that a program measures the promised one: a promise counts what TCP carries in
 * full-size segments in one direction while the other is as full; htb counts Ethernet frames, and with them one
 * acknowledgement for every two segments of the other direction. Integer bit/s, in steps of 1,000 that tc prints exactly.
 */
export function shapedBits(rateMbps: number, mtu: number): number {
  const payload = mtu - tcpHeaderBytes;
  const segment = mtu + ethernetHeaderBytes;
  const acknowledgement = (tcpHeaderBytes + ethernetHeaderBytes) / 2;
  return Math.round((rateMbps * 1000 * (segment + acknowledgement)) / payload) * 1000;
}

/**
 * Compares the rates of a port with what its tap and its ifb device do. The ifb device is made before the tap is there,
 * so that less is left to do when a machine arrives.
 */
export function diffRates(
  port: PortConfig,
  mtu: number,
  observed: {
    readonly tapLink: ObservedLink | undefined;
    readonly tap: ObservedShaping | undefined;
    readonly ifb: ObservedShaping | undefined;
    readonly ifbLink: ObservedLink | undefined;
    /** What this host's kernel tells frames apart by. */
    readonly classifier: Classifier;
  },
  changes: Changes,
): void {
  const ifb = shaperName(port.tap);
  if (port.rates.length === 0) {
    // The ifb device itself goes as a surplus link.
    removeShaping(port.tap, observed.tap, changes);
    return;
  }
  const wished = withMinors(port.rates).map(
    ({ peerMac, rateMbps, latency, burstKib, minor }): WishedRate => {
      const rateBits = shapedBits(rateMbps, mtu);
      const bytesPerMs = rateBits / 8000;
      const low = latency === "low";
      return {
        mac: peerMac,
        minor,
        rateMbps,
        rateBits,
        burstBytes:
          burstKib === undefined
            ? Math.max(leastBurstBytes, Math.round(bytesPerMs * burstMs))
            : burstKib * 1024,
        queueBytes: low
          ? Math.max(leastLowLatencyQueueBytes, Math.round(bytesPerMs * lowLatencyQueueMs))
          : Math.max(leastQueueBytes, Math.round(bytesPerMs * queueMs)),
      };
    },
  );
  const ifbIsThere = observed.ifbLink?.kind === "ifb";
  if (!ifbIsThere) {
    changes.note(
      { object: `ifb ${ifb}`, problem: "missing", detail: `shapes what ${port.tap} sends` },
      { ip: [`link add name ${ifb} type ifb`, `link set dev ${ifb} up`] },
    );
  } else if (observed.ifbLink?.up === false) {
    changes.note(
      { object: `ifb ${ifb}`, problem: "different", detail: "it is down" },
      { ip: [`link set dev ${ifb} up`] },
    );
  }
  const shaping = ifbIsThere ? observed.ifb : undefined;
  const { classifier } = observed;
  diffHtb({ device: ifb, side: "destination", wished, observed: shaping, classifier, changes });

  if (observed.tapLink === undefined) return;
  diffHtb({
    device: port.tap,
    side: "source",
    wished,
    observed: observed.tap,
    classifier,
    changes,
  });
  if (observed.tap?.ingress !== true) {
    changes.note(
      { object: `ingress of ${port.tap}`, problem: "missing", detail: `leads to ${ifb}` },
      { tc: [`qdisc add dev ${port.tap} ingress`] },
    );
  }
  const selectors: Selectors = {
    device: port.tap,
    at: "ingress",
    classifier,
    wished: wished.map(({ mac, minor }) => ({
      preference: minor,
      match: matchOf("destination", mac),
      redirect: ifb,
    })),
    observed: observed.tap?.ingress === true ? observed.tap.selectors : [],
    changes,
  };
  removeSelectors(selectors);
  addSelectors(selectors);
}

interface WishedRate {
  /** Undefined: everybody whom no other rate names. */
  readonly mac: string | undefined;
  readonly minor: number;
  readonly rateMbps: number;
  readonly rateBits: number;
  readonly burstBytes: number;
  readonly queueBytes: number;
}

function diffHtb(request: {
  readonly device: string;
  readonly side: "source" | "destination";
  readonly wished: readonly WishedRate[];
  readonly observed: ObservedShaping | undefined;
  readonly classifier: Classifier;
  readonly changes: Changes;
}): void {
  const { device, wished, changes } = request;
  const observed = request.observed?.htb === true ? request.observed : undefined;
  if (observed === undefined) {
    changes.note(
      { object: `htb of ${device}`, problem: "missing", detail: `${wished.length} rates` },
      { tc: [`qdisc replace dev ${device} root handle ${majorText}: htb default 0`] },
    );
  }
  const selectors: Selectors = {
    device,
    at: "root",
    classifier: request.classifier,
    wished: wished.map(({ mac, minor }) => ({
      preference: minor,
      match: matchOf(request.side, mac),
      classMinor: minor,
    })),
    observed: observed?.selectors ?? [],
    changes,
  };
  // A class goes only when no filter leads to it, and a filter comes only when its class is there.
  removeSelectors(selectors);
  for (const minor of observed?.classes.keys() ?? []) {
    if (wished.some((rate) => rate.minor === minor)) continue;
    changes.note(
      { object: `rate on ${device}`, problem: "surplus", detail: `class ${hex(minor)}` },
      { tc: [`class delete dev ${device} classid ${majorText}:${hex(minor)}`] },
    );
  }
  for (const rate of wished) diffClass(device, rate, observed, changes);
  addSelectors(selectors);
}

function diffClass(
  device: string,
  rate: WishedRate,
  observed: ObservedShaping | undefined,
  changes: Changes,
): void {
  const there = observed?.classes.get(rate.minor);
  const burst = rate.burstBytes;
  const settings =
    `dev ${device} parent ${majorText}: classid ${majorText}:${hex(rate.minor)} ` +
    `htb rate ${rate.rateBits}bit ceil ${rate.rateBits}bit burst ${burst} cburst ${burst} quantum ${quantumBytes}`;
  const object = `rate on ${device}`;
  const detail = `${peerText(rate.mac)} at ${rate.rateMbps} Mbit/s`;
  if (there === undefined) {
    changes.note({ object, problem: "missing", detail }, { tc: [`class add ${settings}`] });
  } else if (
    there.rateBits !== rate.rateBits ||
    there.ceilBits !== rate.rateBits ||
    // The kernel keeps a burst as time, and prints it a little off.
    Math.abs(there.burstBytes - burst) > Math.max(burstToleranceBytes, burst * burstTolerance)
  ) {
    changes.note({ object, problem: "different", detail }, { tc: [`class change ${settings}`] });
  }
  const { queueBytes } = rate;
  const queueThere = there === undefined ? undefined : observed?.queues.get(rate.minor);
  if (queueThere === queueBytes) return;
  changes.note(
    {
      object: `queue on ${device}`,
      problem: queueThere === undefined ? "missing" : "different",
      detail: `${queueBytes} bytes for ${peerText(rate.mac)}`,
    },
    {
      tc: [
        `qdisc replace dev ${device} parent ${majorText}:${hex(rate.minor)} handle ${hex(rate.minor)}: bfifo limit ${queueBytes}`,
      ],
    },
  );
}

interface Selectors {
  readonly device: string;
  readonly classifier: Classifier;
  readonly at: ObservedSelector["at"];
  readonly wished: readonly WishedSelector[];
  readonly observed: readonly ObservedSelector[];
  readonly changes: Changes;
}
interface WishedSelector {
  readonly preference: number;
  readonly match: FrameMatch;
  readonly classMinor?: number;
  readonly redirect?: string;
}

function removeSelectors(selectors: Selectors): void {
  const { device, at, classifier, wished, observed, changes } = selectors;
  const wrong = observed.filter(
    (there) => there.at === at && !wished.some((selector) => isSame(classifier, selector, there)),
  );
  for (const preference of new Set(wrong.map((selector) => selector.preference))) {
    changes.note(
      { object: `filter on ${device}`, problem: "surplus", detail: `${at} ${hex(preference)}` },
      { tc: [`filter delete dev ${device} parent ${parentOf(at)} pref ${preference}`] },
    );
  }
}

function addSelectors(selectors: Selectors): void {
  const { device, at, classifier, wished, observed, changes } = selectors;
  const there = observed.filter((selector) => selector.at === at);
  for (const selector of wished) {
    const atPreference = there.filter((other) => other.preference === selector.preference);
    // A preference that holds anything else beside ours was emptied as a whole.
    if (
      atPreference.length > 0 &&
      atPreference.every((other) => isSame(classifier, selector, other))
    )
      continue;
    const { match: wanted } = selector;
    const target =
      selector.redirect === undefined
        ? `${classifier === "flower" ? "classid" : "flowid"} ${majorText}:${hex(selector.classMinor ?? 0)}`
        : `action mirred egress redirect dev ${selector.redirect}`;
    const who = peerText(wanted.side === "any" ? undefined : wanted.mac);
    changes.note(
      { object: `filter on ${device}`, problem: "missing", detail: `${at} ${who}` },
      {
        tc: [
          `filter add dev ${device} parent ${parentOf(at)} protocol all pref ${selector.preference} ${matchText(classifier, wanted)} ${target}`,
        ],
      },
    );
  }
}

/** `u32 match ether src …`, or `flower src_mac …`; without a MAC it takes every frame. */
function matchText(classifier: Classifier, match: FrameMatch): string {
  if (match.side === "any") return classifier === "flower" ? "flower" : "u32 match u32 0 0";
  const side = match.side === "source" ? "src" : "dst";
  return classifier === "flower"
    ? `flower ${side}_mac ${match.mac}`
    : `u32 match ether ${side} ${match.mac}`;
}

function isSame(classifier: Classifier, wished: WishedSelector, there: ObservedSelector): boolean {
  return (
    there.classifier === classifier &&
    there.preference === wished.preference &&
    there.match !== undefined &&
    isSameMatch(wished.match, there.match) &&
    there.classMinor === wished.classMinor &&
    there.redirect === wished.redirect
  );
}

function isSameMatch(left: FrameMatch, right: FrameMatch): boolean {
  if (left.side === "any" || right.side === "any") return left.side === right.side;
  return left.side === right.side && left.mac === right.mac;
}

function matchOf(side: "source" | "destination", mac: string | undefined): FrameMatch {
  return mac === undefined ? { side: "any" } : { side, mac };
}

function peerText(mac: string | undefined): string {
  return mac ?? "the network";
}

/** A tap that no link names (any more) is not shaped. */
export function removeShaping(
  tap: string,
  observed: ObservedShaping | undefined,
  changes: Changes,
): void {
  if (observed?.htb === true) {
    changes.note(
      { object: `htb of ${tap}`, problem: "surplus", detail: "no link names this machine" },
      { tc: [`qdisc delete dev ${tap} root`] },
    );
  }
  if (observed?.ingress === true) {
    changes.note(
      { object: `ingress of ${tap}`, problem: "surplus", detail: "no link names this machine" },
      { tc: [`qdisc delete dev ${tap} ingress`] },
    );
  }
}

/**
 * A class minor for each peer from its MAC, so that a link that comes or goes leaves the others' classes alone. Two
 * peers of one machine with the same number are rare: the later MAC takes the next one.
 */
function withMinors(
  rates: PortConfig["rates"],
): readonly (PortConfig["rates"][number] & { readonly minor: number })[] {
  const taken = new Set<number>();
  return rates.map((rate) => {
    if (rate.peerMac === undefined) return { ...rate, minor: networkMinor };
    let offset = Number.parseInt(rate.peerMac.replaceAll(":", "").slice(-4), 16) % minorCount;
    while (taken.has(offset)) offset = (offset + 1) % minorCount;
    taken.add(offset);
    return { ...rate, minor: firstMinor + offset };
  });
}

const majorText = htbMajor.toString(16);

function parentOf(at: ObservedSelector["at"]): string {
  return at === "root" ? `${majorText}:` : "ffff:";
}

function hex(number: number): string {
  return number.toString(16);
}
