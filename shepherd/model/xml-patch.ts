/**
 * Which XML patches a stack may declare. Closed by default: a site's owner lists the paths that machines there may set.
 * Whatever is listed, nothing may name a file or device of the host, another namespace (`qemu:` reaches QEMU's own
 * command line), or what drover itself writes. Pure.
 */
import type { XmlPatch } from "#model/objects";

/** `cpu/topology@sockets` -> elements below the domain, and the attribute; undefined: the element's text. */
export function patchTarget(path: string): {
  readonly elements: readonly string[];
  readonly attribute: string | undefined;
} {
  const [way = "", attribute] = path.split("@");
  return { elements: way === "" ? [] : way.split("/"), attribute };
}

const wordPattern = /^[A-Za-z_][A-Za-z0-9_.-]*$/;
/** Elements that are drover's own, or through which a guest would reach the host. */
const closedElements: ReadonlySet<string> = new Set([
  "name",
  "uuid",
  "metadata",
  "memory",
  "currentMemory",
  "maxMemory",
  "vcpu",
  "vcpus",
  "cputune",
  "os",
  "disk",
  "interface",
  "channel",
  "serial",
  "console",
  "parallel",
  "filesystem",
  "hostdev",
  "emulator",
  "loader",
  "nvram",
  "source",
  "seclabel",
  "resource",
  "commandline",
  "launchSecurity",
  "shmem",
  "redirdev",
  "smartcard",
  "tpm",
]);
/** Attributes that name things of the host. */
const closedAttributes: ReadonlySet<string> = new Set([
  "file",
  "path",
  "dev",
  "dir",
  "socket",
  "type",
]);

/**
 * Why a patch is refused; undefined: it may be. `allowed` are the site's paths: exactly that path, or everything below
 * an entry that ends with a slash.
 */
export function xmlPatchProblem(
  { path, value }: XmlPatch,
  allowed: readonly string[],
): string | undefined {
  const { elements, attribute } = patchTarget(path);
  const words = [...elements, ...(attribute === undefined ? [] : [attribute])];
  if (path.split("@").length > 2 || elements.length === 0) {
    return "it is no path of elements with at most one attribute (cpu/topology@sockets)";
  }
  if (words.some((word) => word.includes(":"))) {
    return "other namespaces are always refused; qemu: would reach QEMU's own command line";
  }
  const odd = words.find((word) => !wordPattern.test(word));
  if (odd !== undefined) return `"${odd}" is no name of an element or attribute`;
  const closed = elements.find((name) => closedElements.has(name));
  if (closed !== undefined)
    return `<${closed}> is always refused: drover writes it, or it is the host's`;
  if (attribute !== undefined && closedAttributes.has(attribute)) {
    return `the attribute ${attribute} is always refused: it may name something of the host`;
  }
  if (value.includes("/") || value.includes("\\")) {
    return "values with a slash are always refused: they may be paths of the host";
  }
  if (/[^\x20-\x7e]/.test(value)) return "its value has characters that are not printable ASCII";
  if (!allowed.some((entry) => (entry.endsWith("/") ? path.startsWith(entry) : path === entry))) {
    return allowed.length === 0
      ? "the site allows no XML patches (raw_xml_paths in its configuration)"
      : `the site allows only ${allowed.join(", ")}`;
  }
  return undefined;
}
