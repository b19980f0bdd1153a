/** Certificates as another reader sees them: OpenSSL checks the chain, the name and the dates. */
import { spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  hostCertificateMs,
  hostName,
  openAuthority,
} from "@drover/shepherd/certificates/authority";
import { createHostCertificates } from "@drover/shepherd/certificates/host-certificates";
import { createVirtualClock } from "@drover/shepherd/simulated/clock";
import { afterEach, beforeEach, expect, test } from "@jest/globals";

const nowMs = Date.now();
const dayMs = 24 * 3_600_000;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "drover-authority-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

function openssl(...args: string[]): string {
  const { stdout, stderr } = spawnSync("openssl", args, { encoding: "utf8" });
  return stdout + stderr;
}

test("a host's certificate proves its name, to servers and to clients, for a day", async () => {
  const certificate = await openAuthority(folder).issue("north-1", nowMs);
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const ca = file("ca.pem", certificate.authorityPem);
  const cert = file("cert.pem", certificate.certificatePem);
  for (const purpose of ["sslserver", "sslclient"]) {
    const name = ["-verify_hostname", hostName("north-1")];
    expect(openssl("verify", "-CAfile", ca, "-purpose", purpose, ...name, cert)).toContain(": OK");
  }
  const another = ["-verify_hostname", hostName("south-1")];
  expect(openssl("verify", "-CAfile", ca, ...another, cert)).toMatch(/hostname mismatch/i);
  const text = openssl("x509", "-in", cert, "-noout", "-text");
  expect(text).toContain("Digital Signature, Key Encipherment");
  const { publicKey, validToDate } = new X509Certificate(certificate.certificatePem);
  expect(validToDate.getTime()).toBe(Math.floor((nowMs + hostCertificateMs) / 1000) * 1000);
  const key = file("key.pem", certificate.keyPem);
  expect(openssl("pkey", "-in", key, "-pubout").trim()).toBe(
    publicKey.export({ type: "spki", format: "pem" }).toString().trim(),
  );
});

test("one authority lasts over restarts, readable by nobody else; an old one is replaced and still believed", async () => {
  const first = await openAuthority(folder).issue("north-1", nowMs);
  const again = await openAuthority(folder).issue("south-1", nowMs);
  expect(again.authorityPem).toBe(first.authorityPem);
  expect(statSync(join(folder, "migration-authority.pem")).mode & 0o777).toBe(0o600);
  const years = 9.5 * 365 * dayMs;
  const later = await openAuthority(folder).issue("north-1", nowMs + years);
  expect(later.authorityPem).toContain(first.authorityPem.trim());
  expect(later.authorityPem).not.toBe(first.authorityPem);
  expect(readFileSync(join(folder, "migration-authority.pem"), "utf8")).toContain("PRIVATE KEY");
});

test("what no DNS label can be is named all the same, and never as another host", () => {
  const names = ["north-1", "North-1.example", "a b", "x".repeat(80)].map(hostName);
  expect(new Set(names).size).toBe(4);
  for (const name of names) expect(name).toMatch(/^[a-z0-9-]{1,63}\.host\.drover\.invalid$/);
});

test("a move replaces a certificate that has less than half of its time left, once for moves that begin together", async () => {
  const clock = createVirtualClock(nowMs);
  const placed: string[] = [];
  const ends = new Map<string, number>();
  const certificates = createHostCertificates({
    authority: openAuthority(folder),
    clock,
    placeOf: (hostId) => ({
      notAfterMs: async () => ends.get(hostId),
      place: async ({ notAfterMs }) => {
        placed.push(hostId);
        ends.set(hostId, notAfterMs);
      },
    }),
  });
  await certificates.look("north-1");
  expect(placed).toEqual([]);
  const name = await Promise.all([
    certificates.between("north-1", "south-1"),
    certificates.between("north-1", "south-1"),
  ]);
  expect(name[0]).toEqual({ destinationName: "south-1.host.drover.invalid" });
  expect(placed.toSorted()).toEqual(["north-1", "south-1"]);
  await clock.advance(hostCertificateMs / 2 - 60_000);
  await certificates.between("north-1", "south-1");
  expect(placed).toHaveLength(2);
  await clock.advance(120_000);
  await certificates.between("south-1", "north-2");
  expect(placed.slice(2).toSorted()).toEqual(["north-2", "south-1"]);
});
