-- The journal of DESIGN 8. Ids are text, times integer milliseconds, plain data JSON as text; `epoch` is the fencing
-- epoch of the shepherd that wrote the row. Common subset of SQLite and PostgreSQL wherever it does not cost.

-- One row: the epoch of the shepherd that may write. Opening the store raises it; an older shepherd is refused.
create table shepherd (
  id integer primary key check (id = 1),
  epoch integer not null
);
insert into shepherd (id, epoch) values (1, 0);

create table objects (
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
create index objects_of_environment on objects (kind, environment_id);

create table requests (
  id text primary key,
  environment_id text not null,
  subject text not null,
  idempotency_key text not null,
  received_at_ms integer not null,
  body text not null,
  epoch integer not null
);
create index requests_by_key on requests (subject, idempotency_key);
create index requests_by_time on requests (received_at_ms);

create table decisions (
  n integer primary key autoincrement,
  id text not null unique,
  request_id text not null,
  environment_id text not null,
  decided_at_ms integer not null,
  body text not null,
  epoch integer not null
);
create index decisions_of_request on decisions (request_id, n);
create index decisions_of_environment on decisions (environment_id, n);

create table plans (
  id text primary key,
  digest text not null,
  request_id text not null,
  body text not null,
  epoch integer not null
);

create table grants (
  id text primary key,
  plan_id text not null,
  plan_digest text not null,
  expires_at_ms integer not null,
  used_by text,
  body text not null,
  epoch integer not null
);

create table reservations (
  operation_id text not null,
  host_id text not null,
  machine_id text not null,
  body text not null,
  epoch integer not null,
  primary key (operation_id, host_id, machine_id)
);

create table operations (
  n integer primary key autoincrement,
  id text not null unique,
  state text not null,
  environment_id text not null,
  request_id text not null,
  body text not null,
  epoch integer not null
);
create index operations_by_state on operations (state, n);
create index operations_of_environment on operations (environment_id, n);
create index operations_of_request on operations (request_id, n);
create table operation_machines (
  operation_id text not null,
  machine_id text not null,
  primary key (machine_id, operation_id)
);

create table steps (
  operation_id text not null,
  n integer not null,
  state text not null,
  body text not null,
  epoch integer not null,
  primary key (operation_id, n)
);

create table adaptations (
  id text primary key,
  environment_id text not null,
  machine_id text,
  link_id text,
  body text not null,
  epoch integer not null
);

create table holds (
  scope text primary key,
  body text not null,
  epoch integer not null
);

-- autoincrement: a sequence number is never given twice, even when the newest rows were removed.
create table events (
  seq integer primary key autoincrement,
  kind text not null,
  at_ms integer not null,
  environment_id text,
  machine_id text,
  data text not null,
  epoch integer not null
);

create table addresses (
  network_id text not null,
  address text not null,
  machine_id text not null,
  free_from_ms integer,
  epoch integer not null,
  primary key (network_id, address)
);

-- The evidence log: one entry an event of weight, each bound to the one before by its hash.
create table evidence (
  seq integer primary key,
  event_seq integer not null unique,
  at_ms integer not null,
  kind text not null,
  body_digest text not null,
  previous_hash text not null,
  hash text not null,
  epoch integer not null
);
