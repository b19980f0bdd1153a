/**
 * Hosts and guests as network namespaces, for tests of the host network without a hypervisor: each host has one
 * address on a common wire, each guest has a cable to every host and the one that is plugged in stands for its tap.
 * Needs root and iproute2. All names carry this process's mark; `down` removes every trace.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { Duplex } from "node:stream";
import type { HostId } from "@drover/shepherd/model/units";
import type { CommandResult, HostShell } from "@drover/shepherd/shell/shell";

/** Commands that run as long as they like: they end with their namespace. */
const keptOpen: { readonly namespace: string; readonly child: ChildProcess }[] = [];

const processMark = `dvlab${process.pid.toString(36)}`;

export interface NamespaceHost {
  readonly id: HostId;
  readonly address: string;
  readonly namespace: string;
  readonly shell: HostShell;
}
export interface NamespaceGuest {
  readonly name: string;
  readonly namespace: string;
  readonly tap: string;
}

export interface NamespaceWorld {
  readonly hosts: readonly NamespaceHost[];
  /** A guest with its tap at one host. */
  addGuest(options: {
    readonly name: string;
    readonly tap: string;
    readonly mac: string;
    readonly address: string;
    readonly host: NamespaceHost;
    readonly mtu: number;
  }): NamespaceGuest;
  /** A second tap of the guest at another host, unplugged: what an incoming migration prepares. */
  prepareMove(guest: NamespaceGuest, to: NamespaceHost, mtu: number): void;
  /** Unplugs the old cable and plugs the new one in: the moment at which the destination resumes. */
  switchOver(guest: NamespaceGuest): void;
  /** Removes the tap at the source. */
  finishMove(guest: NamespaceGuest, from: NamespaceHost): void;
  down(): void;
}

/** Runs a command in a namespace and gives its standard output; throws with its standard error. */
export function inNamespace(namespace: string, ...argv: readonly string[]): string {
  return execFileSync("nsenter", [`--net=/run/netns/${namespace}`, ...argv], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });
}

/** Like `inNamespace`, for a command that goes on or may fail; the caller ends it. */
export function startInNamespace(namespace: string, ...argv: readonly string[]): ChildProcess {
  return spawn("nsenter", [`--net=/run/netns/${namespace}`, ...argv], {
    stdio: ["pipe", "pipe", "pipe"],
  });
}

/** The exit code and outputs of a command in a namespace; never throws for the code. */
export function tryInNamespace(
  namespace: string,
  argv: readonly string[],
  input = "",
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = startInNamespace(namespace, ...argv);
    let stdout = "";
    let stderr = "";
    child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
      stdout += chunk;
    });
    child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
      stderr += chunk;
    });
    child.on("error", reject);
    child.on("close", (exitCode) => resolve({ exitCode: exitCode ?? 128, stdout, stderr }));
    // A program that ends without reading its input says why by its exit code.
    child.stdin?.on("error", () => child.stdin?.destroy());
    child.stdin?.end(input);
  });
}

/** The SSH shell's interface without SSH. */
export function namespaceShell(hostId: HostId, namespace: string): HostShell {
  return {
    hostId,
    run: (argv, options) => tryInNamespace(namespace, argv, options?.input),
    script: (text) => tryInNamespace(namespace, ["sh", "-s"], text),
    openCommand: async (argv) => {
      const child = startInNamespace(namespace, ...argv);
      const { stdin, stdout } = child;
      if (stdin === null || stdout === null) throw new Error("a command without pipes");
      child.stderr?.resume();
      keptOpen.push({ namespace, child });
      return Duplex.from({ readable: stdout, writable: stdin });
    },
  };
}

/** `prefix` tells two worlds of one process apart. */
export function raiseNamespaces(count: number, prefix = ""): NamespaceWorld {
  const mark = `${processMark}${prefix}`;
  const namespaces: string[] = [];
  const wire = `${mark}w`;
  const ip = (...argv: readonly string[]): void => void execFileSync("ip", argv);
  const addNamespace = (name: string): void => {
    ip("netns", "add", name);
    namespaces.push(name);
    inNamespace(name, "ip", "link", "set", "lo", "up");
  };
  addNamespace(wire);
  inNamespace(wire, "ip", "link", "add", "wire", "type", "bridge");
  inNamespace(wire, "ip", "link", "set", "wire", "up");

  const hosts = Array.from({ length: count }, (_, index): NamespaceHost => {
    const namespace = `${mark}h${index}`;
    const address = `192.0.2.${index + 1}`;
    addNamespace(namespace);
    const port = `port${index}`;
    inNamespace(wire, "ip", "link", "add", port, "type", "veth", "peer", "up0", "netns", namespace);
    inNamespace(wire, "ip", "link", "set", port, "master", "wire", "up");
    inNamespace(namespace, "ip", "addr", "add", `${address}/24`, "dev", "up0");
    inNamespace(namespace, "ip", "link", "set", "up0", "up");
    const id = `host-${index}`;
    return { id, address, namespace, shell: namespaceShell(id, namespace) };
  });

  const addCable = (guest: NamespaceGuest, end: string, host: NamespaceHost, mtu: number): void => {
    const { namespace } = guest;
    const veth = ["ip", "link", "add", end, "mtu", String(mtu), "type", "veth"];
    inNamespace(namespace, ...veth, "peer", guest.tap, "mtu", String(mtu), "netns", host.namespace);
    inNamespace(namespace, "ip", "link", "set", end, "master", "eth0");
    inNamespace(host.namespace, "ip", "link", "set", guest.tap, "up");
  };

  return {
    hosts,
    addGuest({ name, tap, mac, address, host, mtu }) {
      const guest = { name, namespace: `${mark}g${name}`, tap };
      addNamespace(guest.namespace);
      // The guest's card is a bridge of its own, so that its cable can change while its sockets live on.
      const card = ["ip", "link", "add", "eth0", "address", mac, "mtu", String(mtu)];
      inNamespace(guest.namespace, ...card, "type", "bridge", "mcast_snooping", "0");
      addCable(guest, "cable0", host, mtu);
      inNamespace(guest.namespace, "ip", "link", "set", "cable0", "up");
      inNamespace(guest.namespace, "ip", "link", "set", "eth0", "up");
      inNamespace(guest.namespace, "ip", "addr", "add", `${address}/24`, "dev", "eth0");
      return guest;
    },
    prepareMove: (guest, to, mtu) => addCable(guest, "cable1", to, mtu),
    switchOver(guest) {
      const batch = "link set cable0 down\nlink set cable1 up\n";
      execFileSync("nsenter", [`--net=/run/netns/${guest.namespace}`, "ip", "-batch", "-"], {
        input: batch,
      });
    },
    finishMove(guest, from) {
      inNamespace(from.namespace, "ip", "link", "del", guest.tap);
      inNamespace(guest.namespace, "ip", "link", "set", "cable1", "down");
      inNamespace(guest.namespace, "ip", "link", "set", "cable1", "name", "cable0");
      inNamespace(guest.namespace, "ip", "link", "set", "cable0", "up");
    },
    down() {
      for (const { namespace, child } of keptOpen) if (namespaces.includes(namespace)) child.kill();
      for (const name of namespaces.toReversed()) ip("netns", "del", name);
    },
  };
}
