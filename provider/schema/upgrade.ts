/** Stored states and identities of older schema versions, brought to today's one version at a time. Pure. */

/** As it stands in a state file. Numbers that a double cannot hold are `Decimal`. */
export type JsonObject = Readonly<Record<string, unknown>>;
export type Upgrades = Readonly<Record<number, (state: JsonObject) => JsonObject>>;

/** A version without an upgrade changed nothing but attributes that came and went, which decoding sees to. */
export function upgrade(
  stored: JsonObject,
  versions: { readonly from: number; readonly to: number },
  upgrades: Upgrades = {},
): JsonObject {
  let state = stored;
  for (let version = versions.from; version < versions.to; version++)
    state = upgrades[version]?.(state) ?? state;
  return state;
}
