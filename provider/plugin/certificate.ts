/**
 * A self-signed server certificate for the plugin connection (go-plugin's AutoMTLS), written in DER by hand: Node has
 * no X.509 writer, and a library would outweigh the provider. Lives as long as the process.
 * Source: RFC 5280; the fields that go-plugin's client checks are in reference/terraform.md 2.1.
 */
import { generateKeyPairSync, randomBytes, sign } from "node:crypto";
import {
  bitString,
  boolean,
  contextTag,
  integer,
  objectId,
  octetString,
  sequence,
  set,
  time,
  utf8String,
} from "./der.ts";

export interface Certificate {
  readonly keyPem: string;
  readonly certificatePem: string;
  readonly der: Buffer;
}

const oids = {
  ecdsaWithSha256: "1.2.840.10045.4.3.2",
  commonName: "2.5.4.3",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  extendedKeyUsage: "2.5.29.37",
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
};
/** digitalSignature, keyEncipherment, keyAgreement, keyCertSign. */
const keyUsageBits = Buffer.from([0xac]);
const dayMs = 24 * 60 * 60 * 1000;

/** A P-256 certificate for `localhost`, valid from a minute before `nowMs` (clocks differ) for thirty days. */
export function makeCertificate(nowMs: number): Certificate {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const algorithm = sequence(objectId(oids.ecdsaWithSha256));
  const name = sequence(set(sequence(objectId(oids.commonName), utf8String("localhost"))));
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40; // positive, and no leading zero byte
  const extension = (id: string, critical: boolean, value: Buffer) =>
    sequence(objectId(id), ...(critical ? [boolean(true)] : []), octetString(value));
  const body = sequence(
    contextTag(0, integer(Buffer.from([2]))), // version 3
    integer(serial),
    algorithm,
    name,
    sequence(time(nowMs - 60_000), time(nowMs + 30 * dayMs)),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    contextTag(
      3,
      sequence(
        extension(oids.keyUsage, true, bitString(keyUsageBits, 2)),
        extension(
          oids.extendedKeyUsage,
          false,
          sequence(objectId(oids.clientAuth), objectId(oids.serverAuth)),
        ),
        extension(oids.basicConstraints, true, sequence(boolean(true))),
        extension(
          oids.subjectAltName,
          false,
          sequence(contextTag(2, Buffer.from("localhost"), { constructed: false })),
        ),
      ),
    ),
  );
  const der = sequence(body, algorithm, bitString(sign("sha256", body, privateKey), 0));
  const base64 = (der.toString("base64").match(/.{1,64}/g) ?? []).join("\n");
  return {
    keyPem: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    certificatePem: `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`,
    der,
  };
}
