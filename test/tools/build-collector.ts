/**
 * Builds the OpenTelemetry Collector of test/tools/collector into the cache, once for each version of its go.mod, and
 * prints where it is. Only `make traces` needs it: the tests have a receiver of their own.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { toolsFolder } from "../../shepherd/opa/binary.ts";

const folder = join(import.meta.dirname, "collector");
const digest = createHash("sha256");
for (const file of ["go.mod", "go.sum", "main.go"]) digest.update(readFileSync(join(folder, file)));
const program = join(toolsFolder(`collector-${digest.digest("hex").slice(0, 12)}`), "collector");

if (!existsSync(program)) {
  process.stderr.write("building an OpenTelemetry Collector with Go (some minutes, once)\n");
  mkdirSync(dirname(program), { recursive: true });
  // a half-written program must never look finished: build beside, then rename
  const unfinished = `${program}.${process.pid}`;
  execFileSync("nice", ["-n", "10", "go", "build", "-trimpath", "-o", unfinished, "."], {
    cwd: folder,
    stdio: ["ignore", "inherit", "inherit"],
    env: {
      ...process.env,
      CGO_ENABLED: "0",
      GOWORK: "off",
      GOFLAGS: "-mod=readonly -buildvcs=false",
    },
  });
  renameSync(unfinished, program);
}
process.stdout.write(`${program}\n`);
