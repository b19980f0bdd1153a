/** Files of images at the shepherd, for the operations that place them on hosts. Implements ports/image-files. */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { Fault } from "#model/fault";
import type { ImageFiles } from "#ports/image-files";

export const imageFiles: ImageFiles = {
  async sizeBytes(path) {
    try {
      return (await stat(path)).size;
    } catch (cause) {
      const problem = cause instanceof Error ? cause.message : String(cause);
      throw new Fault("image.unreadable", { path, problem }, { cause });
    }
  },
  open: (path) => createReadStream(path),
};
