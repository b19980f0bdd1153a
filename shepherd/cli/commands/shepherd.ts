/** `drover shepherd`: the daemon, in the foreground. */
import type { Command } from "commander";
import { define, exitCodes, type Streams } from "#cli/command";
import { defaultConfigurationFile, loadConfiguration } from "#configuration/configuration";

export function addShepherd(program: Command, streams: Streams): void {
  define<[], { config: string; check?: boolean; logLevel: string }>(program, streams, {
    name: "shepherd",
    remote: false,
    summary: "run the shepherd in the foreground, until SIGTERM",
    description:
      "Logs JSON lines to standard error. SIGTERM and SIGINT let running steps end, then stop.",
    setUp: (command) =>
      command
        .option(
          "--config <file>",
          "drover.yaml (DROVER_CONFIG)",
          process.env["DROVER_CONFIG"] ?? defaultConfigurationFile,
        )
        .option("--check", "only read and check the configuration")
        .option("--log-level <level>", "trace, debug, info, warn, error", "info"),
    async action(context, options) {
      const configuration = loadConfiguration(options.config);
      if (options.check === true) {
        const hosts = configuration.sites.flatMap((site) => site.hosts);
        context.write(
          `${configuration.file}: ${configuration.sites.length} sites, ${hosts.length} hosts\n`,
        );
        return exitCodes.ok;
      }
      // The whole house is loaded only by the command that runs it.
      const { runShepherd } = await import("#main");
      await runShepherd(configuration, { logLevel: options.logLevel });
      return exitCodes.ok;
    },
  });
}
