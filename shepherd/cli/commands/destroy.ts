/** `drover destroy`: a machine goes; with --keep-disk its own disk stays, as a volume, and no policy is asked. */
import type { Command } from "commander";
import { path } from "#api/client";
import type { MachineView, Mutation } from "#api/contract";
import { define, exitCodes, type Streams, target } from "#cli/command";
import { renderApproval } from "#cli/commands/approvals";
import { follow } from "#cli/commands/operations";
import { show } from "#cli/output";

export function addDestroy(program: Command, streams: Streams): void {
  define<[ReturnType<typeof target>], { keepDisk?: boolean }>(program, streams, {
    name: "destroy",
    summary: "destroy a machine; with --keep-disk its disk stays, and no policy is asked",
    description:
      "Deleting a disk is judged by policy, giving up compute is not. A kept disk is the volume NAME-disk of the\nenvironment: a later machine may name it in its disks, and deleting it is judged then.\nWhat Terraform declares it will want to create again.\n\nExample: drover destroy ring/rank-3 --keep-disk",
    setUp: (command) =>
      command
        .argument("<environment/machine>", "the machine", target)
        .option("--keep-disk", "keep its own disk, as a volume"),
    async action(context, { keepDisk }, { environment, name }) {
      const { items } = await context.client.get<{ items: MachineView[] }>("/v1/machines", {
        query: { environment, name },
      });
      const [machine] = items;
      if (machine === undefined) {
        context.tell(`error: ${environment} has no machine ${name}\nnext:  drover status\n`);
        return exitCodes.fault;
      }
      const answer = await context.client.call<Mutation<MachineView>>(
        "DELETE",
        path`/v1/machines/${machine.id}`,
        keepDisk === true ? { query: { keep_disk: "1" } } : {},
      );
      const { approval, operation } = answer;
      if (approval != null) {
        show(context, approval, () => renderApproval(approval));
        return exitCodes.pending;
      }
      const ended = operation === null ? undefined : await follow(context, operation.id);
      show(context, ended ?? answer, () =>
        keepDisk === true
          ? `destroyed: ${environment}/${name}; its disk is a volume of ${environment}`
          : `destroyed: ${environment}/${name}`,
      );
      return ended === undefined || ended.state === "succeeded" ? exitCodes.ok : exitCodes.fault;
    },
  });
}
