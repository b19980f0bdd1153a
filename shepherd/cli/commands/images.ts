/** `drover image push`: sends files to the shepherd and, with a name, declares the image. */
import { createHash } from "node:crypto";
import { createReadStream, statSync } from "node:fs";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Command } from "commander";
import { path } from "#api/client";
import type { ImageBody, ImageView, Mutation } from "#api/contract";
import { type Context, define, exitCodes, type Streams } from "#cli/command";
import { show } from "#cli/output";
import { Fault } from "#model/fault";

interface Options {
  readonly name?: string;
  readonly kernel?: string;
  readonly initrd?: string;
  readonly cmdline?: string;
}
/** An upload may take as long as a slow line needs. */
const uploadWaitMs = 6 * 3_600_000;
const tellEveryMs = 1_000;

export function addImage(program: Command, streams: Streams): void {
  const group = program.command("image").summary("send images to the shepherd");
  define<[string], Options>(group, streams, {
    name: "push",
    summary: "upload a qcow2 file, its kernel and initrd; with --name declare the image",
    description:
      "Prints the `source` and `sha256` to put into drover_image. A file that is there already is not sent again.",
    setUp: (command) =>
      command
        .argument("<file>", "the qcow2 file")
        .option("--name <name>", "also declare the image under this name")
        .option("--kernel <file>", "boot this kernel directly")
        .option("--initrd <file>", "with this initrd")
        .option("--cmdline <text>", "and this command line"),
    async action(context, options, file) {
      const disk = await upload(context, file);
      const kernel =
        options.kernel === undefined ? undefined : await upload(context, options.kernel);
      const initrd =
        options.initrd === undefined ? undefined : await upload(context, options.initrd);
      const body: ImageBody = {
        source: disk.source,
        sha256: disk.sha256,
        kernel: kernel?.source ?? null,
        initrd: initrd?.source ?? null,
        cmdline: options.cmdline ?? null,
      };
      const image =
        options.name === undefined
          ? null
          : (
              await context.client.call<Mutation<ImageView>>(
                "PUT",
                path`/v1/images/${options.name}`,
                { body },
              )
            ).object;
      show(context, { ...body, image }, () =>
        [
          `source = "${body.source}"`,
          `sha256 = "${body.sha256}"`,
          ...(kernel === undefined ? [] : [`kernel = "${kernel.source}"`]),
          ...(initrd === undefined ? [] : [`initrd = "${initrd.source}"`]),
          ...(image === null ? [] : [`declared as ${image.name}, id ${image.id}`]),
        ].join("\n"),
      );
      return exitCodes.ok;
    },
  });
}

async function upload(
  context: Context,
  file: string,
): Promise<{ readonly source: string; readonly sha256: string }> {
  const sha256 = await digest(file);
  const source = `blob:${sha256}`;
  const at = path`/v1/blobs/${sha256}`;
  if (await isThere(context, at)) {
    context.tell(`${file}: already at the shepherd\n`);
    return { source, sha256 };
  }
  await context.client.call("PUT", at, { body: told(context, file), waitMs: uploadWaitMs });
  return { source, sha256 };
}

async function isThere(context: Context, at: string): Promise<boolean> {
  try {
    await context.client.call("HEAD", at);
    return true;
  } catch (error) {
    if (error instanceof Error && "status" in error && error.status === 404) return false;
    throw error;
  }
}

/** The file as a stream that tells how far it is. */
function told(context: Context, file: string): NodeJS.ReadableStream {
  const totalBytes = statSync(file).size;
  let sentBytes = 0;
  let toldAtMs = performance.now();
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      sentBytes += chunk.length;
      if (performance.now() - toldAtMs > tellEveryMs) {
        toldAtMs = performance.now();
        context.tell(`${file}: ${Math.floor((sentBytes / totalBytes) * 100)} % sent\n`);
      }
      done(null, chunk);
    },
  });
  const reading = createReadStream(file);
  reading.on("error", (error) => counter.destroy(error));
  return reading.pipe(counter);
}

async function digest(file: string): Promise<string> {
  const hash = createHash("sha256");
  try {
    await pipeline(createReadStream(file), hash);
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new Fault("image.unreadable", { path: file, problem }, { cause });
  }
  return hash.digest("hex");
}
