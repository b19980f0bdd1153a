#!/usr/bin/env node
/**
 * The `drover` command. Each subcommand is a file in cli/commands; this one puts them together and turns the end into
 * an exit code: 0 done, 1 fault, 2 usage, 3 denied, 4 pending, 5 partial, 75 no shepherd.
 */
import { realpathSync } from "node:fs";
import { Command, CommanderError } from "commander";
import type { Streams } from "#cli/command";
import { addApprovals } from "#cli/commands/approvals";
import { addBackup } from "#cli/commands/backup";
import { addConsents } from "#cli/commands/consents";
import { addDestroy } from "#cli/commands/destroy";
import { addDoors } from "#cli/commands/doors";
import { addGlass } from "#cli/commands/glass";
import { addHold } from "#cli/commands/holds";
import { addHosts } from "#cli/commands/hosts";
import { addImage } from "#cli/commands/images";
import { addLab } from "#cli/commands/lab";
import { addMove } from "#cli/commands/move";
import { addNetwork } from "#cli/commands/network";
import { addObligations } from "#cli/commands/obligations";
import { addOperation } from "#cli/commands/operation";
import { addOperations } from "#cli/commands/operations";
import { addPolicy } from "#cli/commands/policy";
import { addQuestions } from "#cli/commands/questions";
import { addRecords } from "#cli/commands/records";
import { addRequests } from "#cli/commands/requests";
import { addShepherd } from "#cli/commands/shepherd";
import { addStatus } from "#cli/commands/status";
import { addReplay, addSupport } from "#cli/commands/support";
import { type ExitCode, exitCodes } from "#cli/output";

/** Runs one command line. Never throws for what a user did; resolves to the exit code. */
export async function runCommand(
  argv: readonly string[],
  streams: Omit<Streams, "exit"> = {
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
  },
): Promise<ExitCode> {
  let code: ExitCode = exitCodes.ok;
  const program = build({
    ...streams,
    exit: (given) => {
      code = given;
    },
  });
  try {
    await program.parseAsync([...argv], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    // --help and --version end here too, and are no mistake.
    return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  }
  return code;
}

function build(streams: Streams): Command {
  const program = new Command("drover")
    .description("Private clusters across sites that adapt themselves, judged by policy.")
    .version("0.1.0")
    .enablePositionalOptions()
    .addHelpText(
      "after",
      "\nExit codes: 0 done, 1 fault, 2 usage, 3 denied, 4 pending, 5 partial, 75 no shepherd.",
    );
  addStatus(program, streams);
  addRequests(program, streams);
  addMove(program, streams);
  addApprovals(program, streams);
  addDestroy(program, streams);
  addObligations(program, streams);
  addQuestions(program, streams);
  addConsents(program, streams);
  addGlass(program, streams);
  addHold(program, streams);
  addOperations(program, streams);
  addOperation(program, streams);
  addHosts(program, streams);
  addSupport(program, streams);
  addReplay(program, streams);
  addBackup(program, streams);
  addDoors(program, streams);
  addNetwork(program, streams);
  addImage(program, streams);
  addPolicy(program, streams);
  addRecords(program, streams);
  addLab(program, streams);
  addShepherd(program, streams);
  prepare(program, streams);
  return program;
}

/** Commander would end the process and write by itself; a test must be able to listen. */
function prepare(command: Command, streams: Streams): void {
  command
    .exitOverride()
    .showHelpAfterError("(add --help for more)")
    .configureOutput({ writeOut: streams.out, writeErr: streams.err });
  for (const sub of command.commands) prepare(sub, streams);
}

/** A command line of a shell: the end is the process's exit code. */
export async function runFromShell(argv: readonly string[]): Promise<void> {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0); // the reader of a pipe went away: `drover watch | head`
    throw error;
  });
  process.exitCode = await runCommand(argv);
}

const script = process.argv[1];
if (script !== undefined && realpathSync(script) === import.meta.filename) {
  await runFromShell(process.argv.slice(2));
}
