CREATE TABLE adaptations (
  id text primary key,
  environment_id text not null,
  machine_id text,
  link_id text,
  body text not null,
  epoch integer not null
);

CREATE TABLE addresses (
  network_id text not null,
  address text not null,
  machine_id text not null,
  free_from_ms integer,
  epoch integer not null,
  primary key (network_id, address)
);

CREATE TABLE approvals (
  request_id text primary key,
  environment_id text not null,
  state text not null,
  ask_digest text not null,
  asked_at_ms integer not null,
  body text not null,
  epoch integer not null
);

CREATE TABLE calls (
  id text primary key,
  digest text not null,
  at_ms integer not null,
  first_event integer,
  last_event integer,
  status integer,
  answer text,
  epoch integer not null
);

CREATE TABLE decisions (
  n integer primary key autoincrement,
  id text not null unique,
  request_id text not null,
  environment_id text not null,
  decided_at_ms integer not null,
  body text not null,
  epoch integer not null
);

CREATE TABLE events (
  seq integer primary key autoincrement,
  kind text not null,
  at_ms integer not null,
  environment_id text,
  machine_id text,
  data text not null,
  epoch integer not null
);

CREATE TABLE evidence (
  seq integer primary key,
  event_seq integer not null unique,
  at_ms integer not null,
  kind text not null,
  body_digest text not null,
  previous_hash text not null,
  hash text not null,
  epoch integer not null
);

CREATE TABLE exemptions (
  id text primary key,
  expires_at_ms integer not null,
  body text not null,
  epoch integer not null
);

CREATE TABLE grants (
  id text primary key,
  plan_id text not null,
  plan_digest text not null,
  expires_at_ms integer not null,
  used_by text,
  body text not null,
  epoch integer not null
);

CREATE TABLE holds (
  scope text primary key,
  body text not null,
  epoch integer not null
);

CREATE TABLE host_marks (
  host_id text not null,
  kind text not null,
  body text not null,
  epoch integer not null,
  primary key (host_id, kind)
);

CREATE TABLE migrations (number integer primary key, name text not null, digest text not null);

CREATE TABLE objects (
  kind text not null,
  id text not null,
  key text not null,
  environment_id text,
  spec text not null,
  effective text not null,
  version integer not null,
  claimed integer not null,
  created_at_ms integer not null,
  epoch integer not null,
  primary key (kind, id),
  unique (kind, key)
);

CREATE TABLE obligations (
  id text primary key,
  request_id text not null,
  environment_id text not null,
  state text not null,
  body text not null,
  epoch integer not null
);

CREATE TABLE operation_machines (
  operation_id text not null,
  machine_id text not null,
  primary key (machine_id, operation_id)
);

CREATE TABLE operations (
  n integer primary key autoincrement,
  id text not null unique,
  state text not null,
  environment_id text not null,
  request_id text not null,
  body text not null,
  epoch integer not null
);

CREATE TABLE plans (
  id text primary key,
  digest text not null,
  request_id text not null,
  body text not null,
  epoch integer not null
);

CREATE TABLE recalls (
  id text primary key,
  site_id text not null,
  body text not null,
  epoch integer not null
);

CREATE TABLE requests (
  id text primary key,
  environment_id text not null,
  subject text not null,
  idempotency_key text not null,
  received_at_ms integer not null,
  body text not null,
  epoch integer not null
);

CREATE TABLE reservations (
  operation_id text not null,
  host_id text not null,
  machine_id text not null,
  body text not null,
  epoch integer not null,
  primary key (operation_id, host_id, machine_id)
);

CREATE TABLE shepherd (
  id integer primary key check (id = 1),
  epoch integer not null
, lineage text not null default '');

CREATE TABLE steps (
  operation_id text not null,
  n integer not null,
  state text not null,
  body text not null,
  epoch integer not null,
  primary key (operation_id, n)
);

CREATE TABLE tunnel_ends (
  host_id text not null primary key,
  body text not null,
  epoch integer not null
);

CREATE INDEX approvals_by_ask on approvals (ask_digest, state);

CREATE INDEX approvals_by_state on approvals (state, asked_at_ms);

CREATE INDEX calls_by_time on calls (at_ms);

CREATE INDEX decisions_of_environment on decisions (environment_id, n);

CREATE INDEX decisions_of_request on decisions (request_id, n);

CREATE INDEX objects_of_environment on objects (kind, environment_id);

CREATE INDEX obligations_by_state on obligations (state, id);

CREATE INDEX obligations_of_request on obligations (request_id);

CREATE INDEX operations_by_state on operations (state, n);

CREATE INDEX operations_of_environment on operations (environment_id, n);

CREATE INDEX operations_of_request on operations (request_id, n);

CREATE INDEX plans_of_request on plans (request_id);

CREATE INDEX requests_by_key on requests (subject, idempotency_key);

CREATE INDEX requests_by_time on requests (received_at_ms);
