/** Image parts as plain files at the shepherd. Knows paths and sizes, not what is in them. */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { Fault } from "#model/fault";
import type { ImageFiles } from "#ports/image-files";

export const localImageFiles: ImageFiles = {
  async sizeBytes(path) {
    try {
      return (await stat(path)).size;
    } catch (error) {
      throw new Fault("image.unreadable", { path, problem: String(error) }, { cause: error });
    }
  },
  open: (path) => createReadStream(path),
};
