/**
 * Our mark in a domain's metadata: whose it is, which environment's, of which epoch of the shepherd. A domain without
 * it is not ours and is never touched. Also says how many vCPUs are given back but still plugged (domains.ts tells why).
 */
import { element, type XmlElement } from "#libvirt/xml/element";

export const metadataUri = "https://drover.dev/xml/1";
export const metadataPrefix = "drover";

export interface Mark {
  readonly environmentId: string;
  readonly owner: string;
  readonly epoch: number;
  /** Plugged vCPUs that the machine has given back; 0 where vCPUs can really be unplugged. */
  readonly idleVcpus: number;
  /** Of those plugged then, how many are the machine's; absent: an older shepherd wrote it. */
  readonly countedVcpus?: number | undefined;
  /** The cap that was asked for, where fewer counted vCPUs keep it lower than that. */
  readonly askedCpuPercent?: number | undefined;
}

/** The element inside `<metadata>`. */
export function markElement(mark: Mark): XmlElement {
  const bare = markContent(mark);
  const namespace = { [`xmlns:${metadataPrefix}`]: metadataUri };
  return element(`${metadataPrefix}:${bare.name}`, { ...namespace, ...bare.attributes });
}

/** The same without its namespace, which libvirt adds when metadata is set alone. */
export function markContent(mark: Mark): XmlElement {
  return element("machine", {
    environment: mark.environmentId,
    owner: mark.owner,
    epoch: mark.epoch,
    idle_vcpus: mark.idleVcpus === 0 ? undefined : mark.idleVcpus,
    counted_vcpus: mark.idleVcpus === 0 ? undefined : mark.countedVcpus,
    asked_cpu_percent: mark.idleVcpus === 0 ? undefined : mark.askedCpuPercent,
  });
}

/** Undefined: not ours. */
export function readMark(metadata: XmlElement | undefined): Mark | undefined {
  const found = metadata?.children.find((child) => {
    const [prefix, local] = child.name.split(":");
    return local === "machine" && child.attributes[`xmlns:${prefix}`] === metadataUri;
  });
  if (found === undefined) return undefined;
  const counted = found.attributes["counted_vcpus"];
  const asked = found.attributes["asked_cpu_percent"];
  return {
    environmentId: found.attributes["environment"] ?? "",
    owner: found.attributes["owner"] ?? "",
    epoch: Number(found.attributes["epoch"] ?? 0),
    idleVcpus: Number(found.attributes["idle_vcpus"] ?? 0),
    ...(counted === undefined ? {} : { countedVcpus: Number(counted) }),
    ...(asked === undefined ? {} : { askedCpuPercent: Number(asked) }),
  };
}

/** Another controller's mark: the namespace of the first element that is not ours. libosinfo only names the system. */
export function readOtherMark(metadata: XmlElement | undefined): string | undefined {
  for (const child of metadata?.children ?? []) {
    const prefix = child.name.includes(":") ? `:${child.name.split(":")[0]}` : "";
    const uri = child.attributes[`xmlns${prefix}`];
    if (uri === undefined || uri === metadataUri || uri.startsWith("http://libosinfo.org/"))
      continue;
    return uri;
  }
  return undefined;
}
