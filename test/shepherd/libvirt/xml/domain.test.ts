import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cpuCapOf, cpuPercentOf, schedulerParameters } from "@drover/shepherd/libvirt/xml/cpu-cap";
import { sharesOf, weightOf } from "@drover/shepherd/libvirt/xml/cpu-weight";
import { element, readXml, writeXml } from "@drover/shepherd/libvirt/xml/element";
import { readDomain } from "@drover/shepherd/libvirt/xml/read-domain";
import { writeDomain } from "@drover/shepherd/libvirt/xml/write-domain";
import type { DomainSpec } from "@drover/shepherd/ports/host";
import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";

const golden = (name: string) => join(import.meta.dirname, "../../../golden/libvirt", name);

/** The text equals the golden file; `make golden` rewrites it. */
function expectGolden(name: string, text: string): void {
  if (process.env["GOLDEN"] === "write") writeFileSync(golden(name), text);
  else expect(text).toBe(readFileSync(golden(name), "utf8"));
}

const rank: DomainSpec = {
  id: "0192f000-1111-7222-8333-00000000a001",
  name: "drover-ring-rank-0",
  environmentId: "0192f000-1111-7222-8333-00000000e001",
  owner: "alice & <bob>",
  epoch: 3,
  vcpus: 1,
  vcpusMax: 4,
  cpuPercent: 20,
  memoryMib: 256,
  memoryMaxMib: 1024,
  boot: {
    kernelVolume: "drover-kernel",
    initrdVolume: "drover-initrd",
    cmdline: "console=ttyS0 drover.ip=10.42.0.10/24",
  },
  diskVolume: "drover-rank-0.qcow2",
  nics: [{ mac: "52:54:00:00:a0:01", bridge: "dvb1", tap: "dvt0a001", mtu: 1450 }],
  channels: ["dev.drover.lab", "dev.drover.0"],
};
const tcg = { acceleration: "tcg", poolPath: "/pool", logDirectory: "/log" } as const;
const plain: DomainSpec = { ...rank, vcpus: 2, boot: undefined, nics: [], channels: [] };

describe("a machine's domain XML", () => {
  test("with a kernel of its own, a network and more channels", () => {
    expectGolden("domain-direct-boot.xml", writeDomain(rank, tcg));
  });
  test("that boots its disk under KVM, with two vCPUs under one cap", () => {
    expectGolden("domain-disk-boot.xml", writeDomain(plain, { ...tcg, acceleration: "kvm" }));
  });
  test("has its weight in the words of its host's control groups, and none for the default", () => {
    const shares = (cpuWeight: number | undefined, controlGroups: "v1" | "v2" | undefined) =>
      readDomain(writeDomain({ ...rank, cpuWeight }, { ...tcg, controlGroups })).cpuShares;
    expect(shares(undefined, "v1")).toBeUndefined();
    expect(shares(100, "v1")).toBeUndefined();
    expect(shares(200, "v1")).toBe(2_048);
    expect(shares(200, "v2")).toBe(200);
    expect(shares(200, undefined)).toBe(200);
  });
  test.each(["v1", "v2"] as const)("a weight comes back as it was, in %s", (groups) => {
    for (let weight = 1; weight <= 10_000; weight += 1) {
      if (weightOf(sharesOf(weight, groups), groups) !== weight) throw new Error(`${weight}`);
    }
    // Least that the kernel knows, and what another tool may have written.
    expect(weightOf(2, "v1")).toBe(1);
    expect(weightOf(1_024, "v1")).toBe(100);
  });
  test("reads back as what it was written from", () => {
    expect(readDomain(writeDomain(rank, tcg))).toEqual({
      id: rank.id,
      name: rank.name,
      acceleration: "tcg",
      mark: { environmentId: rank.environmentId, owner: rank.owner, epoch: 3, idleVcpus: 0 },
      vcpus: 1,
      vcpusMax: 4,
      cpuPercent: 20,
      cpuShares: undefined,
      memoryMib: 256,
      memoryMaxMib: 1024,
      machineType: "q35",
      disks: [{ target: "vda", file: "/pool/drover-rank-0.qcow2", readOnly: false }],
      nics: [{ mac: "52:54:00:00:a0:01", bridge: "dvb1", tap: "dvt0a001" }],
      channels: [
        { name: "dev.drover.0", connected: false },
        { name: "dev.drover.lab", connected: false },
      ],
    });
  });
});

describe("what a host shows", () => {
  test("of a running machine of ours, as libvirt 9.0 prints it", () => {
    expect(readDomain(readFileSync(golden("observed-live.xml"), "utf8"))).toMatchObject({
      name: "drover-ring-rank-0",
      mark: { owner: "alice & bob", epoch: 3 },
      vcpus: 2,
      cpuPercent: 90,
      memoryMib: 192,
      memoryMaxMib: 384,
      machineType: "pc-q35-7.2",
      channels: [
        { name: "dev.drover.0", connected: false },
        { name: "dev.drover.lab", connected: true },
      ],
    });
  });
  test.each([
    {
      what: "without any metadata",
      xml: "<domain type='qemu'><name>a</name><uuid>u</uuid></domain>",
    },
    {
      what: "with another's mark of the same name",
      xml: "<domain type='qemu'><name>a</name><uuid>u</uuid><metadata><drover:machine xmlns:drover='https://elsewhere/' owner='x'/></metadata></domain>",
    },
  ])("of a foreign domain $what is not ours", ({ xml }) => {
    expect(readDomain(xml).mark).toBeUndefined();
  });
  test("of a foreign domain in gibibytes and without a current size", () => {
    const xml =
      "<domain type='kvm'><name>a</name><uuid>u</uuid><memory unit='GiB'>2</memory><vcpu>3</vcpu></domain>";
    expect(readDomain(xml)).toMatchObject({
      acceleration: "kvm",
      memoryMib: 2048,
      memoryMaxMib: 2048,
      vcpus: 3,
      vcpusMax: 3,
      cpuPercent: undefined,
    });
  });
  test.each(["", "no xml", "<domain", "<network/>", "<domain><name>a</name></domain>"])(
    "that is no domain (%j) is a protocol fault",
    (xml) => {
      expect(() => readDomain(xml)).toThrow(expect.objectContaining({ code: "libvirt.protocol" }));
    },
  );
  test("an entity that a document declares is not expanded", () => {
    const bomb = `<!DOCTYPE d [<!ENTITY a "x"><!ENTITY b "&a;&a;&a;">]><domain><name>&b;</name><uuid>u</uuid></domain>`;
    const read = () => readDomain(bomb).name;
    let seen: unknown;
    try {
      seen = read();
    } catch (error) {
      seen = error;
    }
    expect(seen).not.toBe("xxx");
  });
});

describe("the cap of the CPU", () => {
  test.each([
    {
      size: { cpuPercent: 20, vcpus: 1 },
      cap: { kind: "per_vcpu", periodUs: 20_000, quotaUs: 4_000 },
    },
    {
      size: { cpuPercent: 2, vcpus: 1 },
      cap: { kind: "per_vcpu", periodUs: 100_000, quotaUs: 2_000 },
    },
    {
      size: { cpuPercent: 150, vcpus: 2 },
      cap: { kind: "domain", periodUs: 20_000, quotaUs: 30_000 },
    },
  ])("of $size.cpuPercent % over $size.vcpus vCPUs", ({ size, cap }) => {
    expect(cpuCapOf(size)).toEqual(cap);
  });

  test("spread for a move it holds all the same, up to rounding of the quota", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3_200 }),
        fc.integer({ min: 1, max: 32 }),
        fc.boolean(),
        (cpuPercent, vcpus, spread) => {
          const cap = cpuCapOf({ cpuPercent, vcpus }, { spread });
          expect(cap.quotaUs).toBeGreaterThanOrEqual(1_000);
          const quotas =
            cap.kind === "domain"
              ? { domainPeriodUs: cap.periodUs, domainQuotaUs: cap.quotaUs }
              : { vcpuPeriodUs: cap.periodUs, vcpuQuotaUs: cap.quotaUs };
          // The kernel's least quota is 1 % of a core for each vCPU.
          const least = cap.kind === "domain" ? 1 : vcpus;
          const seen = cpuPercentOf({ vcpus, ...quotas }) ?? 0;
          if (cpuPercent >= least) expect(Math.abs(seen - cpuPercent)).toBeLessThanOrEqual(1);
          else expect(seen).toBe(least);
        },
      ),
    );
  });

  test("is set with the other form lifted first, as a child may not exceed its parent", () => {
    expect(schedulerParameters({ kind: "domain", periodUs: 20_000, quotaUs: 30_000 })).toEqual([
      { field: "vcpu_quota", type: "llong", value: -1 },
      { field: "global_period", type: "ullong", value: 20_000 },
      { field: "global_quota", type: "llong", value: 30_000 },
    ]);
  });
  test.each([
    { what: "no quota at all", quotas: { vcpus: 2 } },
    { what: "quotas lifted", quotas: { vcpus: 2, vcpuQuotaUs: -1, domainQuotaUs: -1 } },
    { what: "libvirt's other word for none", quotas: { vcpus: 1, vcpuQuotaUs: 0 } },
  ])("$what is uncapped", ({ quotas }) => {
    expect(cpuPercentOf(quotas)).toBeUndefined();
  });
});

test("what is written as XML is read as the same, whatever the text", () => {
  const text = fc
    .string({ unit: "grapheme", minLength: 1 })
    .filter(
      (value) => !/[\u0000-\u001f\u007f-\u009f\ufffe\uffff]/.test(value) && value.trim() === value,
    );
  fc.assert(
    fc.property(text, text, (attribute, content) => {
      const written = element("a", { b: attribute }, element("c", {}, content));
      expect(readXml(writeXml(written))).toEqual(written);
    }),
  );
});

test("a control character is refused, not smuggled into libvirt", () => {
  expect(() => writeXml(element("a", {}, "x\u001b[2J"))).toThrow(
    expect.objectContaining({ code: "libvirt.protocol" }),
  );
});
