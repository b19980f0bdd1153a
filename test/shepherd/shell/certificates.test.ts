/** Where certificates of moves lie on a host, through real shells on this machine: the scripts are what runs on a host. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openAuthority } from "@drover/shepherd/certificates/authority";
import { certificatesOnHost } from "@drover/shepherd/shell/certificates";
import type { HostShell } from "@drover/shepherd/shell/shell";
import { afterEach, beforeEach, expect, test } from "@jest/globals";

const nowMs = Date.now();
let folder: string;
let pki: string;
let place: ReturnType<typeof certificatesOnHost>;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "drover-certificates-"));
  pki = join(folder, "pki");
  const configuration = join(folder, "qemu.conf");
  writeFileSync(configuration, `user = "root"\n  migrate_tls_x509_cert_dir = "${pki}"\n`);
  place = certificatesOnHost(here, configuration);
});
afterEach(() => rmSync(folder, { recursive: true }));

const here: HostShell = {
  hostId: "north-1",
  async run([program = "", ...args], { input = "" } = {}) {
    const { status, stdout, stderr } = spawnSync(program, args, { input, encoding: "utf8" });
    return { exitCode: status ?? -1, stdout, stderr };
  },
  script: () => Promise.reject(new Error("not used")),
};
const files = ["ca-cert", "server-cert", "server-key", "client-cert", "client-key"];
const contents = () => files.map((file) => readFileSync(join(pki, `${file}.pem`), "utf8"));

test("the five files are there, of one certificate; the next one replaces them all and leaves nothing", async () => {
  expect(await place.notAfterMs()).toBeUndefined();
  const authority = openAuthority(join(folder, "state"));
  const first = await authority.issue("north-1", nowMs);
  await place.place(first);
  const expected = (one: typeof first) => [
    one.authorityPem,
    one.certificatePem,
    one.keyPem,
    one.certificatePem,
    one.keyPem,
  ];
  expect(contents()).toEqual(expected(first));
  expect(await place.notAfterMs()).toBe(Math.floor(first.notAfterMs / 1000) * 1000);
  const second = await authority.issue("north-1", nowMs + 3_600_000);
  await place.place(second);
  await place.place(second);
  expect(contents()).toEqual(expected(second));
  expect(readdirSync(pki).toSorted()).toEqual(
    ["drover", `drover-${second.serial}`, ...files.map((file) => `${file}.pem`)].toSorted(),
  );
});

test("certificates that somebody else put there are not touched", async () => {
  mkdirSync(pki);
  writeFileSync(join(pki, "ca-cert.pem"), "the site's own\n");
  const refusal = { code: "tls.foreign_certificates", details: { host: "north-1", folder: pki } };
  await expect(place.notAfterMs()).rejects.toMatchObject(refusal);
  const certificate = await openAuthority(join(folder, "state")).issue("north-1", nowMs);
  await expect(place.place(certificate)).rejects.toMatchObject(refusal);
  expect(readFileSync(join(pki, "ca-cert.pem"), "utf8")).toBe("the site's own\n");
  expect(readdirSync(pki)).toEqual(["ca-cert.pem"]);
});
