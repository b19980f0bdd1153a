/** The seed image, read back by its own tables; bsdtar and blkid read it too (tried by hand, they are no dependency). */
import { seedImage } from "@drover/shepherd/operations/seed";
import { expect, test } from "@jest/globals";

const sector = 2048;

/** Files of the Joliet tree: what Linux and cloud-init see. */
function filesOf(image: Buffer): Record<string, string> {
  const joliet = image.subarray(17 * sector, 18 * sector);
  expect(joliet.toString("latin1", 1, 6)).toBe("CD001");
  const files: Record<string, string> = {};
  let at = joliet.readUInt32LE(156 + 2) * sector;
  for (let length = image.readUInt8(at); length > 0; length = image.readUInt8(at)) {
    const name = image.subarray(at + 33, at + 33 + image.readUInt8(at + 32));
    const begin = image.readUInt32LE(at + 2) * sector;
    expect(image.readUInt32BE(at + 6) * sector).toBe(begin);
    const isFolder = image.readUInt8(at + 25) === 2;
    const text = isFolder ? "" : Buffer.from(name).swap16().toString("utf16le");
    if (!isFolder) files[text] = image.toString("utf8", begin, begin + image.readUInt32LE(at + 10));
    at += length;
  }
  return files;
}

test.each(["", "#cloud-config\n", `#cloud-config\n${"é".repeat(5_000)}`])(
  "user data comes back as it was, under the label and names that cloud-init looks for",
  (userData) => {
    const image = seedImage({ machineId: "0192f000", name: "rank-0", userData });
    const label = Buffer.from(image.subarray(17 * sector + 40, 17 * sector + 52)).swap16();
    expect(label.toString("utf16le")).toBe("cidata");
    expect(image.toString("latin1", 16 * sector + 40, 16 * sector + 46)).toBe("cidata");
    const files = filesOf(image);
    expect(Object.keys(files)).toEqual(["meta-data", "user-data"]);
    expect(files["user-data"]).toBe(userData);
    expect(files["meta-data"]).toMatch(
      /^instance-id: 0192f000-[0-9a-f]{8}\nlocal-hostname: rank-0\n$/,
    );
    expect(image.length % sector).toBe(0);
    expect(image.readUInt32LE(16 * sector + 80)).toBe(image.length / sector);
  },
);

test("the same words give the same bytes; others another instance", () => {
  const of = (userData: string) => seedImage({ machineId: "m", name: "a", userData });
  expect(of("x").equals(of("x"))).toBe(true);
  expect(filesOf(of("x"))["meta-data"]).not.toBe(filesOf(of("y"))["meta-data"]);
});
