/**
 * The wire shapes of hosts that are registered while the shepherd runs. Types only; routes/host-registrations.ts speaks
 * them, the provider's drover_host reads them. Hosts of drover.yaml are seen in /v1/hosts and changed there only.
 *
 *   PUT    /v1/sites/:site/hosts/:name           body HostBody -> Mutation<HostRegistrationView>; connects first
 *   GET    /v1/host-registrations?site=&name=    HostRegistrationView[]
 *   GET|PATCH|DELETE /v1/host-registrations/:id  DELETE is refused while anything of ours is there
 */

export interface HostBody {
  /** libvirt storage pool for our volumes; default drover. */
  pool?: string | null;
  /** IP literal that other hosts reach. */
  migration_address: string;
  lend: LendBody;
  /** What it can carry to other hosts; absent: nobody counts. */
  uplink_mbps?: number | null;
  /** Absent only in the simulated world. */
  ssh?: SshBody | null;
  libvirt_socket?: string | null;
  acceleration?: "kvm" | "tcg";
}
export interface LendBody {
  cpu_percent: number;
  memory_mib: number;
  disk_gib: number;
}
export interface SshBody {
  address: string;
  port?: number;
  user?: string;
  /** Name of a file in the site's `key_dir` at the shepherd. */
  key: string;
  host_key: string;
}
export interface HostPatch {
  lend?: LendBody;
  uplink_mbps?: number | null;
}
export interface HostRegistrationView {
  /** Its name: what machines, plans and /v1/hosts call it. */
  id: string;
  site: string;
  pool: string;
  migration_address: string;
  lend: LendBody;
  uplink_mbps: number | null;
  ssh: { address: string; port: number; user: string; key: string; host_key: string } | null;
  libvirt_socket: string | null;
  acceleration: "kvm" | "tcg";
  /** As it answered last. */
  state: "up" | "degraded";
  version: number;
}

/**
 *   PUT    /v1/site-registrations/:name          body SiteBody -> Mutation<SiteRegistrationView>; its policy is loaded first
 *   GET    /v1/site-registrations?name=          SiteRegistrationView[]    GET|DELETE /v1/site-registrations/:id
 */
export interface SiteBody {
  owner: string;
  /** Folder of its owner's policy at the shepherd. */
  policy: string;
  /** Folder at the shepherd whose files its hosts may name as their SSH key. */
  key_dir?: string | null;
}
export interface SiteRegistrationView {
  /** Its name. */
  id: string;
  owner: string;
  policy: string;
  key_dir: string | null;
  version: number;
}
