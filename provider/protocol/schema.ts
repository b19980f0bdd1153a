/** The noun *schema*: what a resource, a data source or the provider block may hold. */
import {
  type Decoded,
  type Encodable,
  type Field,
  field,
  type Message,
  message,
} from "#plugin/protobuf";
import { type Attribute, type Attributes, isNested } from "#schema/attribute";

const nestings = { single: 1, list: 2, set: 3, map: 4 } as const;
const markdown = 1;

/** Written out because objects hold attributes that hold objects. */
interface WireAttribute {
  readonly name: string;
  readonly type: Uint8Array;
  readonly description: string;
  readonly required: boolean;
  readonly optional: boolean;
  readonly computed: boolean;
  readonly sensitive: boolean;
  readonly description_kind: number;
  readonly deprecated: boolean;
  readonly nested_type: WireObject | undefined;
  readonly write_only: boolean;
  readonly deprecation_message: string;
}
interface WireObject {
  readonly attributes: readonly WireAttribute[];
  readonly nesting: number;
}
type FieldsOf<T> = { readonly [K in keyof T]: Field<T[K]> };

export const attribute: Message<FieldsOf<WireAttribute>> = message("Schema.Attribute", {
  name: field.string(1),
  type: field.bytes(2),
  description: field.string(3),
  required: field.bool(4),
  optional: field.bool(5),
  computed: field.bool(6),
  sensitive: field.bool(7),
  description_kind: field.integer(8),
  deprecated: field.bool(9),
  nested_type: field.one(10, (): Message<FieldsOf<WireObject>> => object) as Field<
    WireObject | undefined
  >,
  write_only: field.bool(11),
  deprecation_message: field.string(12),
});
const object: Message<FieldsOf<WireObject>> = message("Schema.Object", {
  attributes: field.many(1, () => attribute) as Field<readonly WireAttribute[]>,
  nesting: field.integer(3),
});
const block = message("Schema.Block", {
  version: field.integer(1),
  attributes: field.many(2, () => attribute),
  description: field.string(4),
  description_kind: field.integer(5),
  deprecated: field.bool(6),
  deprecation_message: field.string(7),
});
export const schema = message("Schema", {
  version: field.integer(1),
  block: field.one(2, () => block),
});

export function toSchema(declared: {
  readonly version?: number;
  readonly description: string;
  readonly attributes: Attributes;
  readonly deprecated?: string;
}): Encodable<Decoded<typeof schema>> {
  const version = declared.version ?? 0;
  return {
    version,
    block: {
      version,
      attributes: toAttributes(declared.attributes),
      description: declared.description,
      description_kind: markdown,
      deprecated: declared.deprecated !== undefined,
      deprecation_message: declared.deprecated,
    },
  };
}

function toAttributes(declared: Attributes): Encodable<WireAttribute>[] {
  return Object.entries(declared).map(([name, one]) => toAttribute(name, one));
}

function toAttribute(name: string, one: Attribute): Encodable<WireAttribute> {
  const { type, description, required, optional, computed, sensitive, writeOnly } = one;
  const typed = isNested(type)
    ? {
        nested_type: { attributes: toAttributes(type.attributes), nesting: nestings[type.nesting] },
      }
    : { type: Buffer.from(JSON.stringify(type)) };
  return {
    name,
    description,
    description_kind: markdown,
    required,
    optional,
    computed,
    sensitive,
    write_only: writeOnly,
    deprecated: one.deprecated !== undefined,
    deprecation_message: one.deprecated,
    ...typed,
  };
}
