/** The evidence log over the API: its entries, its proof, and the word of whoever put an old database back. */
import { Type } from "typebox";
import type { AcceptedRestoreView, EvidenceReport } from "#api/contract";
import type { ApiRouter } from "#api/server";
import type { ApiEvidence } from "#api/world";
import type { AcceptedRestore } from "#evidence/restores";
import type { Clock } from "#ports/clock";

const defaultLimit = 100;
const Page = Type.Object({
  since: Type.Optional(Type.String({ pattern: "^\\d+$" })),
  limit: Type.Optional(Type.String({ pattern: "^\\d{1,4}$" })),
});
const RestoreBody = Type.Object(
  { reason: Type.String({ minLength: 1, maxLength: 500 }) },
  { additionalProperties: false },
);

export function evidenceRoutes(router: ApiRouter, evidence: ApiEvidence, clock: Clock): void {
  router.get(
    "/v1/evidence/verify",
    { config: { access: "read" } },
    async (): Promise<EvidenceReport> => {
      const { ok, entries, head, brokenAt, problems, witnesses, restores } =
        await evidence.verify();
      return {
        ok,
        entries,
        head,
        broken_at: brokenAt ?? null,
        problems: problems.map(({ kind, where, seq, told }) => ({
          kind,
          where,
          seq: seq ?? null,
          told,
        })),
        witnesses: witnesses.map(({ where, checkpoints, newestSeq, problem }) => ({
          where,
          checkpoints,
          newest_seq: newestSeq,
          problem: problem ?? null,
        })),
        restores: restores.map(restoreView),
      };
    },
  );

  router.post(
    "/v1/evidence/restores",
    { config: { access: "secure" }, schema: { body: RestoreBody } },
    async (request): Promise<AcceptedRestoreView> =>
      restoreView(
        await evidence.acceptRestore({
          by: request.principal.name,
          reason: request.body.reason,
          atMs: clock.nowMs(),
        }),
      ),
  );

  router.get(
    "/v1/evidence",
    { config: { access: "read" }, schema: { querystring: Page } },
    async (request) => ({
      items: await evidence.list(
        Number(request.query.since ?? 0),
        Number(request.query.limit ?? defaultLimit),
      ),
    }),
  );
}

function restoreView({
  by,
  reason,
  atMs,
  keptSeq,
  untilSeq,
}: AcceptedRestore): AcceptedRestoreView {
  return { by, reason, at_ms: atMs, kept_seq: keptSeq, until_seq: untilSeq };
}
