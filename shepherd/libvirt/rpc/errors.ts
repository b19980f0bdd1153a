/**
 * libvirt's errors as faults. Every field that libvirt sent is kept in the details; callers branch on our code (made
 * from libvirt's number), never on the message, which is localized text for logs and people.
 */

import { domainRef, networkRef } from "#libvirt/rpc/references";
import { i32, type Of, optional, string, struct } from "#libvirt/rpc/schema";
import { Fault, type FaultCode } from "#model/fault";

/** The error struct of a reply or stream message with status 1. */
export const remoteError = struct({
  code: i32,
  domain: i32,
  message: optional(string),
  level: i32,
  dom: optional(domainRef),
  str1: optional(string),
  str2: optional(string),
  str3: optional(string),
  int1: i32,
  int2: i32,
  net: optional(networkRef),
});
export type RemoteError = Of<typeof remoteError>;

const codes: ReadonlyMap<number, FaultCode> = new Map<number, FaultCode>([
  [1, "libvirt.internal"],
  [3, "libvirt.unsupported"],
  [8, "libvirt.bad_argument"],
  [9, "libvirt.operation_failed"],
  [27, "libvirt.unsupported_config"],
  [28, "libvirt.exists"],
  [35, "libvirt.unsupported_config"],
  [37, "libvirt.exists"],
  [38, "libvirt.system"],
  [39, "libvirt.rpc"],
  [42, "libvirt.no_domain"],
  [43, "libvirt.no_network"],
  [49, "libvirt.no_pool"],
  [50, "libvirt.no_volume"],
  [55, "libvirt.invalid_now"],
  [67, "libvirt.unsupported_config"],
  [68, "libvirt.timeout"],
  [74, "libvirt.unsupported_argument"],
  [78, "libvirt.aborted"],
  [81, "libvirt.unsafe_migration"],
  [84, "libvirt.unsupported"],
  [86, "libvirt.agent_unresponsive"],
  [90, "libvirt.exists"],
]);

/** The fault of an error that libvirt answered to `procedure` (our name of the call). */
export function libvirtFault(error: RemoteError, procedure: string): Fault {
  return new Fault(codes.get(error.code) ?? "libvirt.other", {
    procedure,
    message: error.message ?? "no message",
    libvirt_code: error.code,
    libvirt_domain: error.domain,
    level: error.level,
    dom: error.dom,
    str1: error.str1,
    str2: error.str2,
    str3: error.str3,
    int1: error.int1,
    int2: error.int2,
    net: error.net,
  });
}
