/**
 * The shepherd's own certificate authority for moves: one key in the state directory, and short-lived certificates that
 * say which host is which. Nobody else has to trust it: only QEMU processes that this shepherd sends memory between do.
 * Knows files and X.509, no hosts. Source of the fields: reference/libvirt.md 6.8 (libvirt wants key encipherment too).
 */
import { createHash, randomBytes, webcrypto, X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { HostId, Ms } from "#model/units";

/** PEM, as QEMU reads them. */
export interface HostCertificate {
  readonly authorityPem: string;
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly serial: string;
  readonly notAfterMs: Ms;
}

export interface Authority {
  issue(hostId: HostId, nowMs: Ms): Promise<HostCertificate>;
}

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const dayMs: Ms = 24 * 3_600_000;
/** What is stolen from a host is worth nothing tomorrow. */
export const hostCertificateMs: Ms = dayMs;
/** A new one is made when the old one has less than a year left; nobody has to think of it. */
const authorityMs: Ms = 3_650 * dayMs;
const authorityRenewMs: Ms = 365 * dayMs;
/** Clocks of hosts differ. */
const earlyMs: Ms = 10 * 60_000;

/**
 * The name that a host proves to have. In a top-level domain that nobody can own, so that no certificate of anybody else
 * can have it.
 */
export function hostName(hostId: HostId): string {
  const label = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(hostId)
    ? hostId.toLowerCase()
    : `x${createHash("sha256").update(hostId).digest("hex").slice(0, 40)}`;
  return `${label}.host.drover.invalid`;
}

/** Opens the authority of a state directory, and makes it there at the first use. */
export function openAuthority(stateDirectory: string): Authority {
  const file = join(stateDirectory, "migration-authority.pem");
  let opened: Promise<OpenAuthority> | undefined;
  return {
    async issue(hostId, nowMs) {
      if (opened !== undefined && (await opened).notAfterMs - nowMs < authorityRenewMs) {
        opened = undefined;
      }
      opened ??= open(file, nowMs);
      return issue(await opened, hostId, nowMs);
    },
  };
}

interface OpenAuthority {
  readonly key: webcrypto.CryptoKey;
  readonly certificatePem: string;
  /** The one before too: hosts that have theirs from it are still believed. */
  readonly trustedPem: string;
  readonly notAfterMs: Ms;
}

async function open(file: string, nowMs: Ms): Promise<OpenAuthority> {
  const before = existsSync(file) ? readFileSync(file, "utf8") : "";
  const certificates = before.match(certificatePattern) ?? [];
  const [newest] = certificates;
  const keyPem = before.match(keyPattern)?.[0];
  if (newest !== undefined && keyPem !== undefined) {
    const notAfterMs = new X509Certificate(newest).validToDate.getTime();
    if (notAfterMs - nowMs >= authorityRenewMs) {
      return {
        key: await readKey(keyPem),
        certificatePem: newest,
        trustedPem: certificates.join("\n"),
        notAfterMs,
      };
    }
  }
  const made = await makeAuthority(nowMs);
  const trustedPem = [made.certificatePem, ...certificates.slice(0, 1)].join("\n");
  mkdirSync(join(file, ".."), { recursive: true, mode: 0o700 });
  writeFileSync(`${file}.new`, `${made.keyPem}\n${trustedPem}\n`, { mode: 0o600, flush: true });
  renameSync(`${file}.new`, file);
  return { ...made, trustedPem };
}

const certificatePattern = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;
const keyPattern = /-----BEGIN PRIVATE KEY-----[^-]*-----END PRIVATE KEY-----/;

async function makeAuthority(nowMs: Ms) {
  const x509 = await writer();
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const notAfterMs = nowMs + authorityMs;
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: "CN=drover moves",
    notBefore: new Date(nowMs - earlyMs),
    notAfter: new Date(notAfterMs),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return {
    key: keys.privateKey,
    keyPem: await keyPemOf(keys.privateKey),
    certificatePem: certificate.toString("pem"),
    notAfterMs,
  };
}

async function issue(
  authority: OpenAuthority,
  hostId: HostId,
  nowMs: Ms,
): Promise<HostCertificate> {
  const x509 = await writer();
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const serial = serialNumber();
  const notAfterMs = nowMs + hostCertificateMs;
  const issuer = new x509.X509Certificate(authority.certificatePem);
  const { keyEncipherment, digitalSignature } = x509.KeyUsageFlags;
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial,
    subject: `CN=${hostName(hostId)}`,
    issuer: issuer.subject,
    notBefore: new Date(nowMs - earlyMs),
    notAfter: new Date(notAfterMs),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey: authority.key,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(digitalSignature | keyEncipherment, true),
      // A host sends in one move and receives in the next.
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.serverAuth,
        x509.ExtendedKeyUsage.clientAuth,
      ]),
      new x509.SubjectAlternativeNameExtension([{ type: "dns", value: hostName(hostId) }]),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
    ],
  });
  return {
    authorityPem: `${authority.trustedPem}\n`,
    certificatePem: `${certificate.toString("pem")}\n`,
    keyPem: `${await keyPemOf(keys.privateKey)}\n`,
    serial,
    notAfterMs,
  };
}

/** Loaded at the first move: it is large, and its parts are joined by decorators, which want `reflect-metadata`. */
async function writer(): Promise<typeof import("@peculiar/x509")> {
  await import("reflect-metadata");
  const x509 = await import("@peculiar/x509");
  x509.cryptoProvider.set(webcrypto as typeof globalThis.crypto);
  return x509;
}

async function readKey(pem: string): Promise<webcrypto.CryptoKey> {
  const der = Buffer.from(pem.replace(/-----[^-]*-----/g, ""), "base64");
  return webcrypto.subtle.importKey("pkcs8", der, algorithm, true, ["sign"]);
}

async function keyPemOf(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", key));
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return ["-----BEGIN PRIVATE KEY-----", ...lines, "-----END PRIVATE KEY-----"].join("\n");
}

/** Positive, without a leading zero byte, as RFC 5280 wants it. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString("hex");
}
