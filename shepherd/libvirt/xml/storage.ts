/** Volumes and pools as libvirt's XML: the few forms that we write, and what we read of them. Knows no calls. */
import { at, element, readXml, writeXml } from "#libvirt/xml/element";
import type { Bytes, Ms } from "#model/units";

/**
 * A file of exactly this size, for bytes to be uploaded into. Always raw: a qcow2 created empty may be longer than what
 * is uploaded; libvirt finds out the format of the content by itself at the next refresh.
 */
export function writeUploadVolume(volume: {
  readonly name: string;
  readonly sizeBytes: Bytes;
}): string {
  return writeXml(
    element(
      "volume",
      {},
      element("name", {}, volume.name),
      element("capacity", { unit: "bytes" }, volume.sizeBytes),
      element("allocation", { unit: "bytes" }, 0),
      element("target", {}, element("format", { type: "raw" })),
    ),
  );
}

/** An empty overlay. The backing format is always said: a probed one could be chosen by a guest that wrote a header. */
export function writeOverlayVolume(volume: {
  readonly name: string;
  readonly capacityBytes: Bytes;
  readonly backingPath: string;
  readonly backingFormat: string;
}): string {
  return writeXml(
    element(
      "volume",
      {},
      element("name", {}, volume.name),
      element("capacity", { unit: "bytes" }, volume.capacityBytes),
      element("allocation", { unit: "bytes" }, 0),
      element("target", {}, element("format", { type: "qcow2" })),
      element(
        "backingStore",
        {},
        element("path", {}, volume.backingPath),
        element("format", { type: volume.backingFormat }),
      ),
    ),
  );
}

/** An empty volume of its own. */
export function writeEmptyVolume(volume: {
  readonly name: string;
  readonly capacityBytes: Bytes;
}): string {
  return writeXml(
    element(
      "volume",
      {},
      element("name", {}, volume.name),
      element("capacity", { unit: "bytes" }, volume.capacityBytes),
      element("allocation", { unit: "bytes" }, 0),
      element("target", {}, element("format", { type: "qcow2" })),
    ),
  );
}

export interface VolumeDescription {
  readonly name: string;
  readonly path: string;
  readonly format: string;
  readonly capacityBytes: Bytes;
  readonly allocatedBytes: Bytes;
  /** Size of the file, holes included; undefined for what is no file. */
  readonly physicalBytes: Bytes | undefined;
  readonly backingPath: string | undefined;
  /** By the host's clock; 0 where libvirt does not say. */
  readonly modifiedAtMs: Ms;
}

export function readVolume(document: string): VolumeDescription {
  const root = readXml(document);
  const bytes = (name: string) => {
    const text = at(root, name)?.text;
    return text === undefined ? undefined : Number(text);
  };
  const backing = at(root, "backingStore", "path")?.text;
  return {
    name: at(root, "name")?.text ?? "",
    path: at(root, "target", "path")?.text ?? "",
    format: at(root, "target", "format")?.attributes["type"] ?? "raw",
    capacityBytes: bytes("capacity") ?? 0,
    allocatedBytes: bytes("allocation") ?? 0,
    physicalBytes: bytes("physical"),
    backingPath: backing === "" ? undefined : backing,
    modifiedAtMs: Math.floor(Number(at(root, "target", "timestamps", "mtime")?.text ?? 0) * 1000),
  };
}

export function writeDirectoryPool(pool: { readonly name: string; readonly path: string }): string {
  const path = element("path", {}, pool.path);
  return writeXml(
    element("pool", { type: "dir" }, element("name", {}, pool.name), element("target", {}, path)),
  );
}

/** Where a pool keeps its files. */
export function readPoolPath(document: string): string {
  return at(readXml(document), "target", "path")?.text ?? "";
}
