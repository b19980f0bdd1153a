/**
 * `cpu_percent` as cgroup quotas, and back. The cap is for all of a machine's vCPUs together.
 * With one vCPU it is that vCPU's quota, so that QEMU's own threads (network, disk, migration) are never throttled.
 * With several it is the domain's quota, because a quota for each vCPU would slow a single-process program down with
 * every vCPU that is added. While such a machine moves, the cap is spread over its vCPUs (`spread`), or the copy
 * would crawl at the cap: it always holds, only its distribution differs.
 */
import type { TypedParameter } from "#libvirt/rpc/schema";
import type { CpuPercent } from "#model/units";

/** Short, so that a capped guest never pauses long; the kernel's least quota is 1,000 us. */
const periodUs = 20_000;
const longPeriodUs = 100_000;
const leastQuotaUs = 1_000;
/** libvirt's word for no quota. */
const unlimited = -1;

export interface CpuCap {
  readonly kind: "per_vcpu" | "domain";
  readonly periodUs: number;
  readonly quotaUs: number;
}

export function cpuCapOf(
  size: { readonly cpuPercent: CpuPercent; readonly vcpus: number },
  options: { readonly spread?: boolean } = {},
): CpuCap {
  const perVcpu = size.vcpus === 1 || options.spread === true;
  const percent = perVcpu ? size.cpuPercent / size.vcpus : size.cpuPercent;
  const period = (percent * periodUs) / 100 >= leastQuotaUs ? periodUs : longPeriodUs;
  const quota = Math.max(leastQuotaUs, Math.round((percent * period) / 100));
  return { kind: perVcpu ? "per_vcpu" : "domain", periodUs: period, quotaUs: quota };
}

/** The parameters that put a cap in force. A child cgroup may never exceed its parent: the other cap is lifted first. */
export function schedulerParameters(cap: CpuCap): readonly TypedParameter[] {
  const [own, other] = cap.kind === "domain" ? ["global", "vcpu"] : ["vcpu", "global"];
  return [
    { field: `${other}_quota`, type: "llong", value: unlimited },
    { field: `${own}_period`, type: "ullong", value: cap.periodUs },
    { field: `${own}_quota`, type: "llong", value: cap.quotaUs },
  ];
}

/** What the quotas of a domain amount to; undefined: uncapped. */
export function cpuPercentOf(quotas: {
  readonly vcpus: number;
  readonly vcpuPeriodUs?: number | undefined;
  readonly vcpuQuotaUs?: number | undefined;
  readonly domainPeriodUs?: number | undefined;
  readonly domainQuotaUs?: number | undefined;
}): CpuPercent | undefined {
  const whole = percentOf(quotas.domainQuotaUs, quotas.domainPeriodUs);
  const each = percentOf(quotas.vcpuQuotaUs, quotas.vcpuPeriodUs);
  const spread = each === undefined ? undefined : each * quotas.vcpus;
  const least = Math.min(whole ?? Number.POSITIVE_INFINITY, spread ?? Number.POSITIVE_INFINITY);
  return Number.isFinite(least) ? Math.round(least) : undefined;
}

function percentOf(quotaUs: number | undefined, usualPeriodUs = longPeriodUs): number | undefined {
  return quotaUs === undefined || quotaUs <= 0 ? undefined : (quotaUs * 100) / usualPeriodUs;
}
