/** The hand-written certificate, read back by Node's own X.509 parser and used by its TLS. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { makeCertificate } from "@drover/provider/plugin/certificate";
import { integer, objectId, sequence } from "@drover/provider/plugin/der";
import { expect, test } from "@jest/globals";

test("a hundred certificates are well-formed, self-signed and belong to their keys", () => {
  const nowMs = Date.parse("2026-11-23T10:00:00Z");
  const serials = new Set<string>();
  for (let i = 0; i < 100; i++) {
    const made = makeCertificate(nowMs);
    const read = new X509Certificate(made.certificatePem);
    serials.add(read.serialNumber);
    expect(read.raw.equals(made.der)).toBe(true);
    expect(read.checkPrivateKey(createPrivateKey(made.keyPem))).toBe(true);
    expect(read.verify(read.publicKey)).toBe(true);
    expect(read.checkHost("localhost")).toBe("localhost");
    expect(read.validFrom).toBe("Nov 23 09:59:00 2026 GMT");
  }
  expect(serials.size).toBe(100);
});

test.each([
  ["a number with its top bit set gets a zero byte", integer(Buffer.from([0x80])), "02020080"],
  ["leading zeros are dropped", integer(Buffer.from([0, 0, 5])), "020105"],
  ["zero is one byte", integer(Buffer.from([0, 0])), "020100"],
  ["an object id in base 128", objectId("1.2.840.10045.4.3.2"), "06082a8648ce3d040302"],
  ["a long length takes two bytes", sequence(Buffer.alloc(300)).subarray(0, 4), "3082012c"],
])("DER: %s", (_, bytes, hex) => {
  expect(bytes.toString("hex")).toBe(hex);
});
