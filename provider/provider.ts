/** The provider: the answers to every call of protocol 6, over one catalogue. Knows no resource by name. */
import * as ours from "./catalogue.ts";
import type { Provider } from "./plugin/serve.ts";
import { actionAnswers, listAnswers } from "./protocol/answers/action.ts";
import { dataSourceAnswers, ephemeralAnswers } from "./protocol/answers/data-source.ts";
import { providerAnswers } from "./protocol/answers/provider.ts";
import { resourceAnswers } from "./protocol/answers/resource.ts";
import { type Catalogue, Session, type SessionOptions } from "./protocol/answers/session.ts";
import { storedStateAnswers } from "./protocol/answers/stored-state.ts";

/** A provider that is not configured yet. Tests of the protocol bring a catalogue of their own. */
export function createProvider(
  options: Omit<SessionOptions, "catalogue"> & { readonly catalogue?: Catalogue },
): Provider {
  const session = new Session({ catalogue: ours, ...options });
  return {
    handlers: {
      ...providerAnswers(session),
      ...resourceAnswers(session),
      ...storedStateAnswers(session),
      ...dataSourceAnswers(session),
      ...ephemeralAnswers(session),
      ...listAnswers(session),
      ...actionAnswers(session),
    },
  };
}
