/** `drover backup` and `drover restore`: on the shepherd's own machine, on its state directory. */
import type { Command } from "commander";
import { define, exitCodes, type Streams } from "#cli/command";
import { clean, show } from "#cli/output";
import { defaultConfigurationFile, loadConfiguration } from "#configuration/configuration";
import { backUp, restoreBackup } from "#store/backup";

const mib = 2 ** 20;

interface Options {
  readonly config: string;
}

const withConfig = (command: Command) =>
  command
    .argument("<folder>")
    .option(
      "--config <file>",
      "drover.yaml, which names the state directory (DROVER_CONFIG)",
      process.env["DROVER_CONFIG"] ?? defaultConfigurationFile,
    );

export function addBackup(program: Command, streams: Streams): void {
  define<[string], Options>(program, streams, {
    name: "backup",
    remote: false,
    summary:
      "copy the journal, tokens and uploaded images into a new folder, while the shepherd runs",
    description:
      "The copy is of one moment. It holds hashes of tokens and everything that was asked: keep it as safe as the state directory.",
    setUp: withConfig,
    async action(context, options, folder) {
      const { stateDirectory } = loadConfiguration(options.config);
      const manifest = await backUp(stateDirectory, folder, Date.now());
      const bytes = manifest.files.reduce((sum, file) => sum + file.bytes, 0);
      show(
        context,
        manifest,
        () =>
          `${clean(folder)}: ${manifest.files.length} files, ${(bytes / mib).toFixed(1)} MiB, to event ${manifest.lastEvent}`,
      );
      return exitCodes.ok;
    },
  });

  define<[string], Options>(program, streams, {
    name: "restore",
    remote: false,
    summary: "put a backup into a state directory that has no journal",
    description:
      "Then start the shepherd: it looks at every host and goes on from what it finds. Machines made since the backup are\nshown by `drover differences`, and never removed by themselves.",
    setUp: withConfig,
    async action(context, options, folder) {
      const { stateDirectory } = loadConfiguration(options.config);
      const manifest = await restoreBackup(folder, stateDirectory, Date.now());
      show(
        context,
        manifest,
        () =>
          `${clean(stateDirectory)} is as of ${new Date(manifest.takenAtMs).toISOString()}, event ${manifest.lastEvent}`,
      );
      return exitCodes.ok;
    },
  });
}
