/** The DER writer and the certificate made with it, read by independent libraries. */
import "reflect-metadata"; // what @peculiar/x509 is built on wants it first
import { makeCertificate } from "@drover/provider/plugin/certificate";
import * as der from "@drover/provider/plugin/der";
import { expect, test } from "@jest/globals";
import * as x509 from "@peculiar/x509";
import * as asn1 from "asn1js";
import fc from "fast-check";

function read(bytes: Buffer) {
  const { offset, result } = asn1.fromBER(new Uint8Array(bytes));
  expect(offset).toBe(bytes.length); // the whole, and nothing but it
  return result;
}

test("whole numbers of any length", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 300n }), (value) => {
      const hex = value.toString(16);
      const magnitude = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, "hex");
      expect((read(der.integer(magnitude)) as asn1.Integer).toBigInt()).toBe(value);
    }),
  );
});

test("object identifiers", () => {
  const arc = fc.integer({ min: 0, max: 2 ** 31 - 1 });
  const oid = fc
    .tuple(
      fc.integer({ min: 0, max: 1 }),
      fc.integer({ min: 0, max: 39 }),
      fc.array(arc, { maxLength: 8 }),
    )
    .map(([first, second, rest]) => [first, second, ...rest].join("."));
  fc.assert(
    fc.property(oid, (dotted) => {
      const value = read(der.objectId(dotted)) as asn1.ObjectIdentifier;
      expect(value.valueBlock.toString()).toBe(dotted);
    }),
  );
});

test("texts, byte and bit strings, nested to any length", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: "grapheme", maxLength: 400 }),
      fc.uint8Array({ maxLength: 400 }),
      (text, bytes) => {
        const whole = read(
          der.sequence(
            der.utf8String(text),
            der.octetString(Buffer.from(bytes)),
            der.boolean(true),
            der.bitString(Buffer.from(bytes), 0),
          ),
        ) as asn1.Sequence;
        const [one, two, three, four] = whole.valueBlock.value;
        expect((one as asn1.Utf8String).getValue()).toBe(text);
        expect(Buffer.from((two as asn1.OctetString).getValue())).toEqual(Buffer.from(bytes));
        expect((three as asn1.Boolean).getValue()).toBe(true);
        expect(Buffer.from((four as asn1.BitString).valueBlock.valueHexView)).toEqual(
          Buffer.from(bytes),
        );
      },
    ),
  );
});

test("times, to the second", () => {
  fc.assert(
    fc.property(
      fc.date({ min: new Date(0), max: new Date("9999-12-31T23:59:59Z"), noInvalidDate: true }),
      (date) => {
        const value = read(der.time(date.getTime())) as asn1.GeneralizedTime;
        expect(value.toDate().getTime()).toBe(Math.floor(date.getTime() / 1000) * 1000);
      },
    ),
  );
});

test("the certificate says what go-plugin checks, to a library that is not Node's", async () => {
  const made = makeCertificate(Date.parse("2026-11-23T10:00:00Z"));
  const certificate = new x509.X509Certificate(made.certificatePem);
  const usages = certificate.getExtension(x509.KeyUsagesExtension);
  const flags = x509.KeyUsageFlags;
  expect({
    subject: certificate.subject,
    signed: await certificate.verify({ date: new Date("2026-11-23T10:00:00Z") }),
    selfSigned: await certificate.isSelfSigned(),
    from: certificate.notBefore.toISOString(),
    authority: certificate.getExtension(x509.BasicConstraintsExtension)?.ca,
    names: certificate.getExtension(x509.SubjectAlternativeNameExtension)?.names.toJSON(),
    usages: usages?.usages,
    purposes: certificate.getExtension(x509.ExtendedKeyUsageExtension)?.usages,
  }).toEqual({
    subject: "CN=localhost",
    signed: true,
    selfSigned: true,
    from: "2026-11-23T09:59:00.000Z",
    authority: true,
    names: [{ type: "dns", value: "localhost" }],
    usages: flags.digitalSignature | flags.keyEncipherment | flags.keyAgreement | flags.keyCertSign,
    purposes: [x509.ExtendedKeyUsage.clientAuth, x509.ExtendedKeyUsage.serverAuth],
  });
});
