import {
  readPoolPath,
  readVolume,
  writeDirectoryPool,
  writeOverlayVolume,
  writeUploadVolume,
} from "@drover/shepherd/libvirt/xml/storage";
import { expect, test } from "@jest/globals";

test("an overlay names its backing file and that file's format", () => {
  const overlay = {
    name: "o.qcow2",
    capacityBytes: 4096,
    backingPath: "/p/b.qcow2",
    backingFormat: "qcow2",
  };
  expect(writeOverlayVolume(overlay)).toBe(`<volume>
  <name>o.qcow2</name>
  <capacity unit='bytes'>4096</capacity>
  <allocation unit='bytes'>0</allocation>
  <target>
    <format type='qcow2'/>
  </target>
  <backingStore>
    <path>/p/b.qcow2</path>
    <format type='qcow2'/>
  </backingStore>
</volume>
`);
});

test("a file to upload into has exactly its size, whatever its content will be", () => {
  expect(writeUploadVolume({ name: "k", sizeBytes: 7 })).toBe(`<volume>
  <name>k</name>
  <capacity unit='bytes'>7</capacity>
  <allocation unit='bytes'>0</allocation>
  <target>
    <format type='raw'/>
  </target>
</volume>
`);
});

test("a directory pool reads back its folder", () => {
  expect(readPoolPath(writeDirectoryPool({ name: "p", path: "/a b/<c>" }))).toBe("/a b/<c>");
});

test("a volume as libvirt prints it", () => {
  const xml = `<volume type='file'>
  <name>rank.qcow2</name>
  <key>/p/rank.qcow2</key>
  <capacity unit='bytes'>134217728</capacity>
  <allocation unit='bytes'>200704</allocation>
  <physical unit='bytes'>196616</physical>
  <target><path>/p/rank.qcow2</path><format type='qcow2'/>
    <timestamps><mtime>1700000000.250000000</mtime></timestamps></target>
  <backingStore><path>/p/base.qcow2</path><format type='qcow2'/></backingStore>
</volume>`;
  expect(readVolume(xml)).toEqual({
    name: "rank.qcow2",
    path: "/p/rank.qcow2",
    format: "qcow2",
    capacityBytes: 134_217_728,
    allocatedBytes: 200_704,
    physicalBytes: 196_616,
    backingPath: "/p/base.qcow2",
    modifiedAtMs: 1_700_000_000_250,
  });
});
