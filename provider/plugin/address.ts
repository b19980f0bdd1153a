/** Who this provider is for Terraform and OpenTofu; the one place that names it. */

/** Full source address: host, namespace, type. Always written whole, since default hosts differ between tools. */
export const providerAddress = "drover.dev/drover/drover";
export const providerVersion = "0.1.0";
/** Name of the executable that a plugin host looks for. */
export const providerFileName = `terraform-provider-drover_v${providerVersion}`;
