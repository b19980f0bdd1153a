/** The journal, grants and operations. A part of the catalogue of fault codes (model/fault-catalogue.ts). */
import { entry, type FaultEntry } from "#model/faults/entry";

export const operationFaults = {
  // the journal (store/)
  "conflict.exists": entry(
    409,
    "never",
    "A {kind} named {key} exists already with id {existingId}",
    "Import it by its id, or choose another name.",
  ),
  "conflict.version": entry(
    409,
    "after_reconcile",
    "The {kind} {id} changed meanwhile: version {expected} is stored as {stored}",
    "Read it again and repeat the change on what is there now.",
  ),
  "backup.no_journal": entry(
    404,
    "never",
    "There is no journal in {directory}",
    "Name the drover.yaml of the shepherd whose state you want to copy.",
  ),
  "backup.exists": entry(
    409,
    "never",
    "{directory} is there already",
    "Name a folder that does not exist yet: a backup is never written over another.",
  ),
  "backup.damaged": entry(
    422,
    "never",
    "The backup {directory} is not whole: {file}",
    "Nothing was restored. Use another backup.",
  ),
  "backup.journal_there": entry(
    409,
    "never",
    "There is a journal at {file}",
    "Move the state directory away first, and keep it: it may know more than the backup.",
  ),
  "evidence.broken": entry(
    409,
    "never",
    "The evidence log does not fit together from entry {entry} on: that is no restore",
    "A database that was put back is whole. `drover log verify` names what was edited; keep all copies and find out who.",
  ),
  "evidence.nothing_to_accept": entry(
    409,
    "never",
    "No site speaks against the evidence log, so no restore waits to be accepted",
    "`drover log verify` tells what sites saw. A site that could not be read may still have something to say.",
  ),
  "store.newer": entry(
    500,
    "never",
    "The journal was written by a newer shepherd: migration {migration} is unknown here",
    "Start the newer shepherd, or restore a backup of the journal.",
  ),
  "store.migration_changed": entry(
    500,
    "never",
    "Migration {migration} is not the one that made this journal",
    "A migration is final once released: restore its file and add a new one.",
  ),
  "store.fenced": entry(
    409,
    "never",
    "Another shepherd took over this journal with epoch {current}; this one had {epoch}",
    "Stop this shepherd: the newer one runs the hosts now.",
  ),

  // grants and operations (operations/)
  "grant.unknown": entry(
    404,
    "never",
    "No grant {grant} is journaled",
    "Ask again: an operation starts only with a grant for exactly its plan.",
  ),
  "grant.used": entry(
    409,
    "never",
    "Grant {grant} was used by operation {usedBy}",
    "A grant runs one plan once; ask again for another.",
  ),

  "grant.expired": entry(
    409,
    "later",
    "Grant {grant} expired before its operation was admitted",
    "Ask again: facts change, and a permission is for now.",
  ),
  "grant.plan_mismatch": entry(
    409,
    "never",
    "Grant {grant} is not for plan {plan}",
    "Report this as a bug: an operation starts only with a grant for exactly its plan.",
  ),
  "operation.unknown": entry(
    404,
    "never",
    "No operation {operation} is journaled",
    "List operations with `drover operations`.",
  ),
  "operation.cancelled": entry(
    409,
    "never",
    "The operation was cancelled",
    "What it had begun was taken back; ask again if it is still wanted.",
  ),
  "operation.interrupted": entry(
    500,
    "later",
    "Operation {operation} was interrupted and taken back",
    "Ask again if it is still wanted.",
  ),
  "operation.step_timeout": entry(
    504,
    "after_reconcile",
    "{step} did not end within {budgetMs} ms",
    "It may still happen; the shepherd looks at the host before it goes on.",
  ),
  "operation.not_confirmed": entry(
    502,
    "after_reconcile",
    "{step} was done, but the host does not show it",
    "Look at the host; something else may change the same object.",
  ),
  "operation.question": entry(
    409,
    "later",
    "{question}",
    "Answer it on the hosts; the operation goes on when they say so, a stuck one with `drover stuck retry`.",
  ),
  "operation.machine_stuck": entry(
    409,
    "later",
    "Machine {machine} waits for a human: {question}",
    "`drover stuck` shows the question and its commands; then `drover stuck retry {operation}`, or destroy the machine.",
  ),
  "operation.object_gone": entry(
    409,
    "never",
    "The {kind} {id} is gone from the journal",
    "It was destroyed meanwhile; declare it again if it is still wanted.",
  ),
  "machine.placed_already": entry(
    409,
    "never",
    "{machine} is on {host} already",
    "Declare it once; a change of a machine that runs is an update.",
  ),
  "machine.not_running": entry(
    409,
    "later",
    "{machine} is {state} on {host}, so it cannot be changed live",
    "Start it, or destroy and declare it again.",
  ),
  "machine.memory_held": entry(
    409,
    "later",
    "{machine} was to have {askedMib} MiB and has {reachedMib} MiB: its guest holds {usedMib} MiB in use",
    "It keeps what it has now, and that is what counts. Free memory inside the guest, then ask again.",
  ),
  "machine.card_held": entry(
    409,
    "later",
    "The guest of {machine} does not let go of its network card {mac}",
    "It was asked to, and did not answer: it may still be booting, or lack hot-plug support. Try again, or shut the guest down first.",
  ),
  "migration.blocked": entry(
    409,
    "later",
    "The move was not begun, {count} in the way: {problems}",
    "Nothing was changed and nothing was copied. Each blocker in `blockers` names its fix; `drover move … --dry-run` looks again.",
  ),
  "migration.refused": entry(
    409,
    "later",
    "The move from {from} to {to} was not begun: {problem}",
    "Nothing was changed. Mend what is named, or choose another host.",
  ),
  "migration.stalled": entry(
    504,
    "later",
    "The copy got nowhere and was given up after {afterMs} ms",
    "The guest writes faster than the line carries, or the line is down; it goes on where it was.",
  ),
  "migration.layer_differs": entry(
    502,
    "later",
    "{ranges} ranges of {volume} on {host} are not what was sent",
    "The move did not happen. Look at the disk of that host: what it wrote it does not read back.",
  ),
  "migration.fold_stalled": entry(
    504,
    "later",
    "The layers of {machine}'s disk are not joined: nothing was written for {stalledMs} ms",
    "The machine runs on both layers, whole. Look at its host's disk; it is tried again.",
  ),
  "tls.foreign_certificates": entry(
    409,
    "never",
    "{folder} on {host} holds certificates that are not the shepherd's: they are not touched",
    "Let libvirt take those of moves from a folder of their own (migrate_tls_x509_cert_dir in qemu.conf), or switch encryption off in drover.yaml.",
  ),
  "migration.hopeless": entry(
    409,
    "later",
    "{machine} cannot be moved live now: {why}",
    "It goes on where it was. Move it when it writes less, over a faster line, or let policy allow another rung.",
  ),
  "migration.switched": entry(
    409,
    "never",
    "{machine} runs on {to} already: a move that happened is not undone",
    "Ask for a move back if it is wanted.",
  ),
  "volume.at_home": entry(
    409,
    "after_reconcile",
    "Volume {volume} stays on {host}: the journal says that it lies there",
    "Look where its machine runs; a copy of a volume is removed only where the volume is not at home.",
  ),
  "migration.disk_in_doubt": entry(
    409,
    "after_reconcile",
    "The disk of {machine} on {host} stays: the machine is {here} there and {elsewhere} on {other}",
    "Find out where the machine is; a disk is removed only where no guest has it and another runs.",
  ),
  "machine.name_taken": entry(
    409,
    "never",
    "Host {host} has a domain named {name} that is not this machine: {holder}",
    "It is never touched. Rename the machine, or the other domain.",
  ),
} satisfies Record<string, FaultEntry>;
