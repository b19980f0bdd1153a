import { writeDiskSnapshot } from "@drover/shepherd/libvirt/xml/disk-snapshot";
import { expect, test } from "@jest/globals";

test("one disk gets a layer that is there already; every other one is named, or libvirt would freeze it too", () => {
  const file = "/pool/drover-a&b.top.qcow2";
  expect(writeDiskSnapshot({ target: "vda", file, others: ["vdb", "sda"] })).toBe(
    `<domainsnapshot>
  <disks>
    <disk name='vda' snapshot='external' type='file'>
      <driver type='qcow2'/>
      <source file='/pool/drover-a&amp;b.top.qcow2'/>
    </disk>
    <disk name='vdb' snapshot='no'/>
    <disk name='sda' snapshot='no'/>
  </disks>
</domainsnapshot>
`,
  );
});
