-- Answers of calls that came with an idempotency key. A row without a status: the change is journaled, its answer is not.

create table calls (
  id text primary key,
  digest text not null,
  at_ms integer not null,
  first_event integer,
  last_event integer,
  status integer,
  answer text,
  epoch integer not null
);
create index calls_by_time on calls (at_ms);
