/**
 * The first words with Terraform's plugin host (go-plugin): what it says in the environment, and the one line that it
 * wants on standard output. Pure. Source: reference/terraform.md 2.1, read in go-plugin 1.8.
 */

/** Says "started by a plugin host", not "trusted"; fixed by Terraform. */
export const magicCookie = {
  name: "TF_PLUGIN_MAGIC_COOKIE",
  value: "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2",
} as const;
export const protocolVersion = 6;

export type Environment = Readonly<Record<string, string | undefined>>;
export type Greeting =
  | {
      readonly kind: "plugin";
      readonly clientCertificatePem: string | undefined;
      readonly multiplex: boolean;
    }
  | { readonly kind: "refused"; readonly message: string };

export function readGreeting(environment: Environment): Greeting {
  if (environment[magicCookie.name] !== magicCookie.value) {
    return {
      kind: "refused",
      message:
        "This is the drover provider. Terraform or OpenTofu starts it; there is nothing to do for it on its own.\n" +
        'Write `terraform { required_providers { drover = { source = "drover.dev/drover/drover" } } }` and run `terraform init`.\n' +
        "To attach a debugger, start it with --debug.",
    };
  }
  const offered = (environment["PLUGIN_PROTOCOL_VERSIONS"] ?? String(protocolVersion)).split(",");
  if (!offered.includes(String(protocolVersion))) {
    return {
      kind: "refused",
      message: `This provider speaks plugin protocol ${protocolVersion}; the tool offers ${offered.join(", ")}. Use Terraform 1.11 or OpenTofu 1.11, or newer.`,
    };
  }
  return {
    kind: "plugin",
    clientCertificatePem: environment["PLUGIN_CLIENT_CERT"] || undefined,
    multiplex: environment["PLUGIN_MULTIPLEX_GRPC"] !== undefined,
  };
}

/** Field 6 is the leaf certificate as base64 without padding; a 7th answers a host that asked about multiplexing. */
export function handshakeLine(options: {
  readonly socketPath: string;
  readonly certificateDer: Buffer | undefined;
  readonly multiplex: boolean;
}): string {
  const certificate = options.certificateDer?.toString("base64").replace(/=+$/, "") ?? "";
  const fields = ["1", String(protocolVersion), "unix", options.socketPath, "grpc", certificate];
  return `${[...fields, ...(options.multiplex ? ["false"] : [])].join("|")}\n`;
}
