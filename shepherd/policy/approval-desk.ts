/**
 * Where people's words arrive: votes, withdrawals, and the clock that ends what nobody decided. When a vote was the last
 * one needed it asks the gate to decide again. Durable at each step; after a kill `settle` goes on from the votes.
 */
import type { Approval, Vote } from "#model/consent";
import { Fault, isFault } from "#model/fault";
import type { Plan } from "#model/plan";
import type { Request } from "#model/request";
import type { Digest, Ms } from "#model/units";
import { end, isComplete, mustBePending, vote } from "#policy/approvals";
import type { Clock } from "#ports/clock";
import type { Store } from "#ports/store";

export interface DeskWorld {
  readonly store: Store;
  readonly clock: Clock;
  /** Decides on the request anew with what people approved; the approval's record says how it ended. */
  readonly decideAgain: (
    request: Request,
    approved: { readonly approval: Approval; readonly plan: Plan },
  ) => Promise<unknown>;
}

export class ApprovalDesk {
  readonly #world: DeskWorld;

  constructor(world: DeskWorld) {
    this.#world = world;
  }

  async vote(
    requestId: string,
    word: Omit<Vote, "atMs"> & { readonly planDigest?: Digest | undefined },
  ): Promise<Approval> {
    const { store, clock } = this.#world;
    const voted = await store.transaction((journal) =>
      vote(journal, requestId, { ...word, atMs: clock.nowMs() }),
    );
    return isComplete(voted) ? await this.#carryOut(voted) : voted;
  }

  async withdraw(requestId: string, by: string): Promise<Approval> {
    const { store, clock } = this.#world;
    const atMs = clock.nowMs();
    return await store.transaction(async (journal) => {
      const approval = await mustBePending(journal, requestId, atMs);
      const request = await journal.requests.get(requestId);
      if (request?.subject.name !== by) {
        throw new Fault("approval.not_yours", { by, request: requestId });
      }
      return await end(journal, approval, {
        state: "withdrawn",
        outcome: `withdrawn by ${by}`,
        atMs,
      });
    });
  }

  async settle(): Promise<Ms | undefined> {
    const { store, clock } = this.#world;
    const nowMs = clock.nowMs();
    const waiting = await store.transaction(async (journal) => {
      const left: Approval[] = [];
      for (const approval of await journal.approvals.list({ states: ["pending"] })) {
        if (approval.expiresAtMs > nowMs) left.push(approval);
        else {
          const outcome = `nobody decided within ${Math.round((approval.expiresAtMs - approval.askedAtMs) / 3_600_000)} h`;
          await end(journal, approval, { state: "expired", outcome, atMs: nowMs });
        }
      }
      return left;
    });
    for (const approval of waiting) if (isComplete(approval)) await this.#carryOut(approval);
    const next = waiting.map(({ expiresAtMs }) => expiresAtMs);
    return next.length === 0 ? undefined : Math.min(...next);
  }

  /** Enough people said yes: decided again on the facts of now, with their approval. */
  async #carryOut(approval: Approval): Promise<Approval> {
    const { store } = this.#world;
    const { requestId, planId } = approval;
    const { request, plan } = await store.read(async (journal) => ({
      request: await journal.requests.get(requestId),
      plan: await journal.plans.get(planId),
    }));
    if (request === undefined || plan === undefined) {
      throw new Fault("approval.unknown", { request: requestId });
    }
    try {
      await this.#world.decideAgain(request, { approval, plan });
    } catch (error) {
      // A name or an address that somebody else took meanwhile stays taken: no later try would help.
      if (!isFault(error) || error.entry.retry !== "never") throw error;
      return await this.#impossible(approval, error);
    }
    const now = await store.read((journal) => journal.approvals.get(requestId));
    if (now === undefined) throw new Fault("approval.unknown", { request: requestId });
    if (now.state === "pending") {
      throw new Fault("approval.plan_changed", {
        request: requestId,
        read: approval.planDigest,
        now: now.planDigest,
      });
    }
    return now;
  }

  async #impossible({ requestId }: Approval, fault: Fault): Promise<Approval> {
    const { store, clock } = this.#world;
    return await store.transaction(async (journal) => {
      const atMs = clock.nowMs();
      const approval = await mustBePending(journal, requestId, atMs);
      const outcome = `approved, but not possible by now: ${fault.message}`;
      return await end(journal, approval, { state: "denied", outcome, atMs });
    });
  }
}
