/** Where an image's files are read from when a part is placed at a host: files at the shepherd, until depots arrive. */
import type { Readable } from "node:stream";
import type { Bytes } from "#model/units";

export interface ImageFiles {
  /** Size of the file; Fault `image.unreadable` when it is not there. */
  sizeBytes(path: string): Promise<Bytes>;
  open(path: string): Readable;
}
