/** The journal's tables as Kysely sees them; the SQL in migrations/ is what makes them. Knows columns, not meanings. */
import type { ColumnType, Generated } from "kysely";

/** Plain data as JSON text. */
type Json = string;
/** Set by the database, never written by us. */
type Counter = Generated<number>;
type Nullable<T> = ColumnType<T | null, T | null | undefined, T | null>;

export interface Tables {
  shepherd: { id: number; epoch: number; lineage: string };
  objects: {
    kind: string;
    id: string;
    key: string;
    environment_id: Nullable<string>;
    spec: Json;
    effective: Json;
    version: number;
    claimed: number;
    created_at_ms: number;
    epoch: number;
  };
  requests: {
    id: string;
    environment_id: string;
    subject: string;
    idempotency_key: string;
    received_at_ms: number;
    body: Json;
    epoch: number;
  };
  decisions: {
    n: Counter;
    id: string;
    request_id: string;
    environment_id: string;
    decided_at_ms: number;
    body: Json;
    epoch: number;
  };
  plans: { id: string; digest: string; request_id: string; body: Json; epoch: number };
  grants: {
    id: string;
    plan_id: string;
    plan_digest: string;
    expires_at_ms: number;
    used_by: Nullable<string>;
    body: Json;
    epoch: number;
  };
  reservations: {
    operation_id: string;
    host_id: string;
    machine_id: string;
    body: Json;
    epoch: number;
  };
  operations: {
    n: Counter;
    id: string;
    state: string;
    environment_id: string;
    request_id: string;
    body: Json;
    epoch: number;
  };
  operation_machines: { operation_id: string; machine_id: string };
  steps: { operation_id: string; n: number; state: string; body: Json; epoch: number };
  adaptations: {
    id: string;
    environment_id: string;
    machine_id: Nullable<string>;
    link_id: Nullable<string>;
    body: Json;
    epoch: number;
  };
  holds: { scope: string; body: Json; epoch: number };
  host_marks: { host_id: string; kind: string; body: Json; epoch: number };
  tunnel_ends: { host_id: string; body: Json; epoch: number };
  approvals: {
    request_id: string;
    environment_id: string;
    state: string;
    ask_digest: string;
    asked_at_ms: number;
    body: Json;
    epoch: number;
  };
  recalls: { id: string; site_id: string; body: Json; epoch: number };
  obligations: {
    id: string;
    request_id: string;
    environment_id: string;
    state: string;
    body: Json;
    epoch: number;
  };
  exemptions: { id: string; expires_at_ms: number; body: Json; epoch: number };
  events: {
    seq: Counter;
    kind: string;
    at_ms: number;
    environment_id: Nullable<string>;
    machine_id: Nullable<string>;
    data: Json;
    epoch: number;
  };
  addresses: {
    network_id: string;
    address: string;
    machine_id: string;
    free_from_ms: Nullable<number>;
    epoch: number;
  };
  calls: {
    id: string;
    digest: string;
    at_ms: number;
    first_event: Nullable<number>;
    last_event: Nullable<number>;
    status: Nullable<number>;
    answer: Nullable<string>;
    epoch: number;
  };
  evidence: {
    seq: number;
    event_seq: number;
    at_ms: number;
    kind: string;
    body_digest: string;
    previous_hash: string;
    hash: string;
    epoch: number;
  };
}
