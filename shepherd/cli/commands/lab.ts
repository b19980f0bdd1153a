/** `drover lab`: sites on this machine, real libvirtd, sshd and QEMU in namespaces. The work is in lab/. */
import type { Command } from "commander";
import { define, exitCodes, type Streams } from "#cli/command";
import { type ExitCode, show } from "#cli/output";
import { Fault } from "#model/fault";

interface Place {
  readonly name?: string;
  readonly stateDir?: string;
}

export function addLab(program: Command, streams: Streams): void {
  const group = program
    .command("lab")
    .summary("raise and remove sites on this machine to play and test with (root)");
  const place = (command: Command) =>
    command
      .option("--name <name>", "name of the lab; several may run")
      .option("--state-dir <directory>", "where it keeps its files");
  // Loaded when used: a status call need not read the lab.
  const commands = () => import("#lab/commands");

  define<[], Place & { stack?: string[]; socket?: string; listen?: string; wan?: string[] }>(
    group,
    streams,
    {
      name: "up",
      remote: false,
      summary: "sweep, build the guest image, start every host, write drover.yaml",
      setUp: (command) =>
        place(command)
          .option("--stack <environment=directory...>", "where adaptations.json is written")
          .option("--socket <path>", "the shepherd's socket")
          .option("--listen <address:port>", "the shepherd's TCP listener")
          .option(
            "--wan <site:site=values...>",
            "what lies between two sites, such as north:south=50ms,200mbit,1%",
          ),
      async action(context, options) {
        const { labUp, parseWan } = await commands();
        const stacks = (options.stack ?? []).map((text) => {
          const [environment = "", directory = ""] = text.split("=");
          return { environment, directory };
        });
        const lab = await labUp(
          {
            ...placeOf(options),
            stacks,
            ...(options.wan === undefined ? {} : { wan: options.wan.map(parseWan) }),
            ...(options.socket === undefined ? {} : { socket: options.socket }),
            ...(options.listen === undefined ? {} : { listen: options.listen }),
          },
          (line) => context.tell(`${line}\n`),
        );
        show(context, lab, () =>
          [
            `lab ${lab.layout.name} is up`,
            `next: drover shepherd --config ${lab.configurationFile}`,
            `      IMAGE_DIR=${lab.imageDirectory}`,
          ].join("\n"),
        );
        return exitCodes.ok;
      },
    },
  );

  define<[string | undefined, string[]], Place>(group, streams, {
    name: "wan",
    remote: false,
    summary: "show what lies between the sites, or change, cut or mend it while the lab is up",
    setUp: (command) =>
      place(command)
        .argument("[action]", "show (default), set, cut or mend")
        .argument("[site:site...]", "`set` takes values: north:south=50ms,200mbit,1%"),
    async action(context, options, action, paths) {
      const { describeWans, labWan } = await commands();
      const known = (["show", "set", "cut", "mend"] as const).find(
        (name) => name === (action ?? "show"),
      );
      if (known === undefined)
        throw new Fault("lab.wan_invalid", {
          text: action ?? "",
          problem: "there are show, set, cut and mend",
        });
      const wan = await labWan({ ...placeOf(options), action: known, paths });
      show(context, wan ?? null, () => describeWans(wan));
      return exitCodes.ok;
    },
  });

  define<[], Place & { cache?: true }>(group, streams, {
    name: "down",
    remote: false,
    summary: "remove everything the lab made, also after a kill",
    setUp: (command) =>
      place(command).option("--cache", "also the guests' kernel and images kept for the next lab"),
    async action(context, options) {
      const { labDown } = await commands();
      const report = await labDown({ ...placeOf(options), cache: options.cache === true }, (line) =>
        context.tell(`${line}\n`),
      );
      show(context, report, () => "the lab is down");
      return exitCodes.ok;
    },
  });

  define<[], Place>(group, streams, {
    name: "status",
    remote: false,
    summary: "which hosts run, with their machines",
    setUp: place,
    async action(context, options) {
      const { describeStatus, labStatus } = await commands();
      const status = labStatus(placeOf(options));
      show(context, status, () => describeStatus(status));
      return status.state === "up" ? exitCodes.ok : exitCodes.fault;
    },
  });

  define<[string, string[]], Place>(group, streams, {
    name: "ssh",
    remote: false,
    summary: "a shell, or a command, at a host over real SSH",
    setUp: (command) =>
      place(command).argument("<host>").argument("[command...]").passThroughOptions(),
    async action(_context, options, host, command) {
      const { labSsh } = await commands();
      return (await labSsh({ ...placeOf(options), host, command })) as ExitCode;
    },
  });

  define<[string, string[]], Place>(group, streams, {
    name: "exec",
    remote: false,
    summary: "a command inside a host's namespaces, or inside a machine",
    setUp: (command) =>
      place(command).argument("<host-or-machine>").argument("<command...>").passThroughOptions(),
    async action(context, options, target, command) {
      const { labExec } = await commands();
      return (await labExec({
        ...placeOf(options),
        target,
        command,
        write: context.write,
      })) as ExitCode;
    },
  });
}

function placeOf(options: Place): { name?: string; stateDirectory?: string } {
  return {
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.stateDir === undefined ? {} : { stateDirectory: options.stateDir }),
  };
}
