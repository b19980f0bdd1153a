/** The lab: sites on one machine. A part of the catalogue of fault codes (model/fault-catalogue.ts). */
import { entry, type FaultEntry } from "#model/faults/entry";

export const labFaults = {
  // lab: sites on one machine
  "lab.layout_invalid": entry(
    400,
    "never",
    "The lab cannot be laid out: {problem}",
    "Correct the names of the lab's sites and hosts.",
  ),
  "lab.host_unknown": entry(
    404,
    "never",
    "The lab has no host {host}; it has {hosts}",
    "Name one of the lab's hosts.",
  ),
  "lab.host_failed": entry(
    500,
    "never",
    "{what} of lab host {host} did not start: {problem}",
    "Read the log it names ({file}), then run `drover lab up` again.",
  ),
  "lab.command_failed": entry(
    500,
    "never",
    "`{command}` ended with exit code {exitCode}: {problem}",
    "Run the command by hand to see more; `drover lab down` removes what was made so far.",
  ),
  "lab.address_taken": entry(
    409,
    "never",
    "None of the {count} networks that a lab may have, 10.100/16 to 10.219/16, is free on this machine; there is a route: {route}",
    "Remove the route, or that of a lab which is no longer needed (`drover lab down --name NAME`).",
  ),
  "lab.wan_invalid": entry(
    400,
    "never",
    "The path {text} between sites is no good: {problem}",
    "Write it as `north:south=50ms,200mbit,1%`: 0 to 150 ms of round trip, 10 to 1000 Mbit/s, up to 50 % loss.",
  ),
  "lab.state_directory_foreign": entry(
    409,
    "never",
    "{folder} is not empty and no lab's: it is left alone",
    "Name another state folder, or move what is in it.",
  ),
  "lab.cleanup_failed": entry(
    500,
    "later",
    "Something of the lab stayed: {problem}",
    "Run `drover lab down` again.",
  ),
  "lab.busy": entry(
    409,
    "later",
    "Process {pid} is changing the lab {name}",
    "Wait for it to end, or use another lab with DROVER_LAB.",
  ),
  "lab.not_up": entry(409, "never", "The lab {name} is not up", "Raise it with `drover lab up`."),
  "lab.machine_missing": entry(
    404,
    "later",
    "No lab host runs a machine {machine} with the channel {channel}",
    "Start it; the lab's channel must be among its channels.",
  ),
  "lab.guest_silent": entry(
    504,
    "later",
    "Machine {machine} did not answer on the lab's channel within {timeoutMs} ms",
    "Look at its console on the host: it may still be booting.",
  ),
  "lab.prerequisite_missing": entry(
    500,
    "never",
    "{what} is missing: {problem}",
    "Install it as the message says, then run the command again.",
  ),
} satisfies Record<string, FaultEntry>;
