/** What the ephemeral resources that are passes have in common: their machine, and how they live while Terraform runs. */
import { ProblemError, path } from "@drover/shepherd/api/client";
import type { MachineView } from "@drover/shepherd/api/contract";
import type { PassView } from "@drover/shepherd/api/contract-passes";
import type { EphemeralType } from "#schema/ephemeral";
import type { Work } from "#schema/resource";
import { splitImportId } from "../resources/declared-object.ts";
import { findOne } from "../resources/lookup.ts";

/** Early enough that a slow call still meets it alive; Terraform looks each second or so. */
const aheadMs = 30_000;

/** When to renew what is good until then. */
export function renewAtMs(expiresAtMs: number): number {
  return expiresAtMs - aheadMs;
}

/** Undefined after it was reported that there is none. */
export async function machineId(work: Work, named: string): Promise<string | undefined> {
  const { client, signal, report } = work;
  const key = splitImportId(named);
  const view =
    key === undefined
      ? await client.find<MachineView>(path`/v1/machines/${named}`, { signal })
      : await findOne<MachineView>(client, "/v1/machines", key);
  if (view === undefined)
    report.at("machine").error("No such machine", `The shepherd knows no machine "${named}".`);
  return view?.id;
}

/** One that was used, or that the shepherd forgot, is not renewed: there is nothing to keep. */
export const passLife: Required<Pick<EphemeralType, "renew" | "close">> = {
  renew: async ({ client, signal }, kept) => {
    try {
      const renewed = await client.call<PassView>(
        "POST",
        path`/v1/passes/${String(kept["id"])}/renew`,
        {
          signal,
        },
      );
      return { renewAtMs: renewAtMs(renewed.expires_at_ms), private: kept };
    } catch (error) {
      if (error instanceof ProblemError && error.code === "pass.unknown") return undefined;
      throw error;
    }
  },
  close: async ({ client, signal }, kept) => {
    await client.call("DELETE", path`/v1/passes/${String(kept["id"])}`, { signal });
  },
};
