/** A site's copy of checkpoints as a file on this machine: the simulated sites have no machines of their own. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { errorCode } from "#model/error-code";
import type { SiteId } from "#model/units";
import type { Witness } from "#ports/witness";

export function createFileWitness(siteId: SiteId, file: string): Witness {
  const keyFile = `${file}.pub`;
  const textOf = async (name: string): Promise<string | undefined> => {
    try {
      return await readFile(name, "utf8");
    } catch (error) {
      if (errorCode(error) === "ENOENT") return undefined;
      throw error;
    }
  };
  return {
    siteId,
    async append(lines, publicKey) {
      await mkdir(dirname(file), { recursive: true });
      if ((await textOf(keyFile)) === undefined) await writeFile(keyFile, publicKey);
      await writeFile(file, lines.map((line) => `${line}\n`).join(""), { flag: "a" });
    },
    async read() {
      const lines = ((await textOf(file)) ?? "").split("\n").filter(Boolean);
      return { lines, publicKey: await textOf(keyFile) };
    },
  };
}
