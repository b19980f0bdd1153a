/** A disk-only snapshot of one disk, as libvirt's XML: the others are left alone by name, read-only media included. */
import { element, writeXml } from "#libvirt/xml/element";

export function writeDiskSnapshot(disk: {
  /** As the domain has it: `vda`. */
  readonly target: string;
  /** Absolute path of the overlay that is there already. */
  readonly file: string;
  readonly others: readonly string[];
}): string {
  return writeXml(
    element(
      "domainsnapshot",
      {},
      element(
        "disks",
        {},
        element(
          "disk",
          { name: disk.target, snapshot: "external", type: "file" },
          element("driver", { type: "qcow2" }),
          element("source", { file: disk.file }),
        ),
        ...disk.others.map((name) => element("disk", { name, snapshot: "no" })),
      ),
    ),
  );
}
