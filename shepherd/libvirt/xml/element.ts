/**
 * XML as a value: written with everything escaped, read into the same shape. A tree of elements, no more: no mixed
 * content, no comments. Knows nothing of libvirt's documents.
 */
import { XMLParser } from "fast-xml-parser";
import { protocolFault } from "#libvirt/rpc/xdr";

export interface XmlElement {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly XmlElement[];
  /** Text of an element without children. */
  readonly text: string;
}

type Content = string | number | XmlElement | undefined;
type Attributes = Readonly<Record<string, string | number | undefined>>;

/** An element; attributes and children that are undefined are left out. Text stands alone. */
export function element(name: string, attributes: Attributes, ...content: Content[]): XmlElement {
  const present = Object.entries(attributes).flatMap(([key, value]) =>
    value === undefined ? [] : [[key, String(value)]],
  );
  const children = content.filter((item): item is XmlElement => typeof item === "object");
  const text = content.filter((item) => typeof item === "string" || typeof item === "number");
  return { name, attributes: Object.fromEntries(present), children, text: text.join("") };
}

/** Indented text, as libvirt prints it. */
export function writeXml(root: XmlElement, indent = ""): string {
  const attributes = Object.entries(root.attributes).map(
    ([key, value]) => ` ${key}='${escape(value)}'`,
  );
  const open = `${indent}<${root.name}${attributes.join("")}`;
  if (root.children.length > 0) {
    const inner = root.children.map((child) => writeXml(child, `${indent}  `)).join("");
    return `${open}>\n${inner}${indent}</${root.name}>\n`;
  }
  return root.text === "" ? `${open}/>\n` : `${open}>${escape(root.text)}</${root.name}>\n`;
}

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: false,
  attributeNamePrefix: "",
  parseTagValue: false,
  parseAttributeValue: false,
  trimValues: true,
  ignoreDeclaration: true,
  ignorePiTags: true,
});

/** Reads a document. Fault `libvirt.protocol` when it is none. Entities declared in it are not expanded. */
export function readXml(document: string): XmlElement {
  let nodes: unknown;
  try {
    nodes = parser.parse(document, true);
  } catch (error) {
    throw protocolFault(`no XML: ${error instanceof Error ? error.message : String(error)}`);
  }
  const [root] = elementsOf(nodes);
  if (root === undefined) throw protocolFault("an XML document without an element");
  return root;
}

/** The first child along a path of names; undefined where one is missing. */
export function at(root: XmlElement, ...path: string[]): XmlElement | undefined {
  let found: XmlElement | undefined = root;
  for (const name of path) found = found?.children.find((child) => child.name === name);
  return found;
}

/** All children of a name below a path. */
export function all(root: XmlElement | undefined, name: string): readonly XmlElement[] {
  return root?.children.filter((child) => child.name === name) ?? [];
}

function elementsOf(nodes: unknown): XmlElement[] {
  if (!Array.isArray(nodes)) return [];
  return nodes.flatMap((node: Record<string, unknown>) => {
    const name = Object.keys(node).find((key) => key !== ":@");
    if (name === undefined || name === "#text") return [];
    const content = node[name];
    const texts = (Array.isArray(content) ? content : []) as readonly Record<string, unknown>[];
    const attributes = (node[":@"] ?? {}) as Record<string, unknown>;
    const entries = Object.entries(attributes).map(([key, value]) => [key, String(value)]);
    return [
      {
        name,
        attributes: Object.fromEntries(entries) as Record<string, string>,
        children: elementsOf(content),
        text: texts.map((item) => ("#text" in item ? String(item["#text"]) : "")).join(""),
      },
    ];
  });
}

function escape(text: string): string {
  return text.replace(/[&<>'"\u0000-\u001f]/g, (character) => {
    switch (character) {
      case "&":
        return "&amp;";
      case "<":
        return "&lt;";
      case ">":
        return "&gt;";
      case "'":
        return "&apos;";
      case '"':
        return "&quot;";
      case "\t":
      case "\n":
      case "\r":
        return `&#${character.charCodeAt(0)};`;
      default:
        throw protocolFault(`XML cannot carry the control character ${character.charCodeAt(0)}`);
    }
  });
}
