/**
 * Applies XML patches to a domain: each names one attribute (`cpu/topology@sockets`) or the text of one element, making
 * the elements on its way where they are not there. What may be patched at all was judged where it was declared
 * (model/xml-patch.ts); this only writes. Pure.
 */
import { element, type XmlElement } from "#libvirt/xml/element";
import type { XmlPatch } from "#model/objects";
import { patchTarget } from "#model/xml-patch";

export function patched(domain: XmlElement, patches: readonly XmlPatch[]): XmlElement {
  return patches.reduce((root, patch) => {
    const { elements, attribute } = patchTarget(patch.path);
    return write(root, elements, attribute, patch.value);
  }, domain);
}

function write(
  at: XmlElement,
  elements: readonly string[],
  attribute: string | undefined,
  value: string,
): XmlElement {
  const [name, ...rest] = elements;
  if (name === undefined) {
    return attribute === undefined
      ? { ...at, text: value }
      : { ...at, attributes: { ...at.attributes, [attribute]: value } };
  }
  const index = at.children.findIndex((child) => child.name === name);
  const before = at.children[index] ?? element(name, {});
  const child = write(before, rest, attribute, value);
  return {
    ...at,
    children: index === -1 ? [...at.children, child] : at.children.with(index, child),
  };
}
