/**
 * What is broken when, on real hosts: which operation, at which of its steps, what happens to which process or wire.
 * Data only; the stage does it and judges. The order is the order of worth: a time-boxed run takes them from the top.
 */

export type Victim = "source" | "destination";
export type Blow =
  | { readonly kind: "shepherd"; readonly how: "kill" }
  | { readonly kind: "libvirtd"; readonly how: "kill" | "stop"; readonly at: Victim }
  | { readonly kind: "sshd"; readonly how: "kill" | "stop"; readonly at: Victim }
  | { readonly kind: "qemu"; readonly how: "kill" | "stop"; readonly at: Victim }
  | { readonly kind: "link"; readonly how: "cut"; readonly at: Victim }
  /** The host's pool has no block left; healed when the operation has ended. */
  | { readonly kind: "disk"; readonly how: "fill"; readonly at: Victim };

export interface Case {
  readonly operation: "create" | "resize" | "move" | "destroy";
  /** Part of the step's name; the blow falls when it is journaled as begun. */
  readonly step: string;
  /** Part of the progress message to wait for within the step: a copy that is under way. */
  readonly during?: string;
  readonly blow: Blow;
  /** How long it lasts; then it is healed. 0: until the shepherd has been replaced, or the operation has ended. */
  readonly forMs: number;
}

const copying = { operation: "move", step: "copy and switch", during: "copying" } as const;
const tenSeconds = 10_000;
/** Longer than every keepalive on the way. */
const forGood = 45_000;

export const cases: readonly Case[] = [
  { ...copying, blow: { kind: "libvirtd", how: "kill", at: "source" }, forMs: 2_000 },
  { ...copying, blow: { kind: "libvirtd", how: "kill", at: "destination" }, forMs: 2_000 },
  { ...copying, blow: { kind: "shepherd", how: "kill" }, forMs: 0 },
  { ...copying, blow: { kind: "sshd", how: "kill", at: "source" }, forMs: 0 },
  { ...copying, blow: { kind: "link", how: "cut", at: "destination" }, forMs: tenSeconds },
  { ...copying, blow: { kind: "qemu", how: "kill", at: "destination" }, forMs: 0 },
  {
    operation: "move",
    step: "disk on",
    blow: { kind: "disk", how: "fill", at: "destination" },
    forMs: 0,
  },
  {
    operation: "create",
    step: "start on",
    blow: { kind: "libvirtd", how: "kill", at: "source" },
    forMs: 2_000,
  },
  {
    operation: "destroy",
    step: "stop",
    blow: { kind: "libvirtd", how: "stop", at: "source" },
    forMs: tenSeconds,
  },
  {
    operation: "resize",
    step: "memory",
    blow: { kind: "libvirtd", how: "stop", at: "source" },
    forMs: tenSeconds,
  },
  { ...copying, blow: { kind: "libvirtd", how: "stop", at: "destination" }, forMs: tenSeconds },
  { ...copying, blow: { kind: "libvirtd", how: "stop", at: "source" }, forMs: tenSeconds },
  { ...copying, blow: { kind: "qemu", how: "stop", at: "source" }, forMs: 5_000 },
  { ...copying, blow: { kind: "qemu", how: "stop", at: "destination" }, forMs: 5_000 },
  { ...copying, blow: { kind: "sshd", how: "kill", at: "destination" }, forMs: 0 },
  { ...copying, blow: { kind: "sshd", how: "stop", at: "source" }, forMs: tenSeconds },
  { ...copying, blow: { kind: "link", how: "cut", at: "source" }, forMs: tenSeconds },
  { ...copying, blow: { kind: "link", how: "cut", at: "source" }, forMs: forGood },
  { ...copying, blow: { kind: "link", how: "cut", at: "destination" }, forMs: forGood },
  {
    operation: "move",
    step: "disk on",
    blow: { kind: "libvirtd", how: "kill", at: "destination" },
    forMs: 2_000,
  },
  {
    operation: "move",
    step: "network on",
    blow: { kind: "sshd", how: "kill", at: "destination" },
    forMs: 0,
  },
  {
    operation: "move",
    step: "leave",
    blow: { kind: "libvirtd", how: "kill", at: "source" },
    forMs: 2_000,
  },
  { operation: "move", step: "forwarding", blow: { kind: "shepherd", how: "kill" }, forMs: 0 },
  {
    operation: "move",
    step: "remove disk",
    blow: { kind: "sshd", how: "kill", at: "source" },
    forMs: 0,
  },
  {
    operation: "move",
    step: "look at both",
    blow: { kind: "link", how: "cut", at: "destination" },
    forMs: tenSeconds,
  },
  {
    operation: "create",
    step: "start on",
    blow: { kind: "libvirtd", how: "stop", at: "source" },
    forMs: tenSeconds,
  },
  {
    operation: "create",
    step: "start on",
    blow: { kind: "sshd", how: "kill", at: "source" },
    forMs: 0,
  },
  { operation: "create", step: "start on", blow: { kind: "shepherd", how: "kill" }, forMs: 0 },
  {
    operation: "create",
    step: "disk on",
    blow: { kind: "libvirtd", how: "kill", at: "source" },
    forMs: 2_000,
  },
  {
    operation: "resize",
    step: "memory",
    blow: { kind: "libvirtd", how: "kill", at: "source" },
    forMs: 2_000,
  },
  { operation: "resize", step: "CPU", blow: { kind: "sshd", how: "kill", at: "source" }, forMs: 0 },
  { operation: "resize", step: "memory", blow: { kind: "shepherd", how: "kill" }, forMs: 0 },
  {
    operation: "destroy",
    step: "stop",
    blow: { kind: "libvirtd", how: "kill", at: "source" },
    forMs: 2_000,
  },
  {
    operation: "destroy",
    step: "disk",
    blow: { kind: "sshd", how: "kill", at: "source" },
    forMs: 0,
  },
  { operation: "destroy", step: "stop", blow: { kind: "shepherd", how: "kill" }, forMs: 0 },
];

export function nameOf({ operation, step, blow, forMs }: Case): string {
  const at = "at" in blow ? ` at its ${blow.at}` : "";
  const long = forMs === 0 ? "" : `, for ${forMs / 1000} s`;
  return `${operation}, "${step}": ${blow.kind} ${blow.how}${at}${long}`;
}
