-- What people add to a decision: approvals of one plan, a site's recalled consent, exemptions from a rule.

create table approvals (
  request_id text primary key,
  environment_id text not null,
  state text not null,
  ask_digest text not null,
  asked_at_ms integer not null,
  body text not null,
  epoch integer not null
);
create index approvals_by_state on approvals (state, asked_at_ms);
create index approvals_by_ask on approvals (ask_digest, state);

create table recalls (
  id text primary key,
  site_id text not null,
  body text not null,
  epoch integer not null
);

create table exemptions (
  id text primary key,
  expires_at_ms integer not null,
  body text not null,
  epoch integer not null
);

create index plans_of_request on plans (request_id);
