-- What policies demanded with a yes: told, verified, reviewed. `state` is what the shepherd wakes up for.

create table obligations (
  id text primary key,
  request_id text not null,
  environment_id text not null,
  state text not null,
  body text not null,
  epoch integer not null
);
create index obligations_by_state on obligations (state, id);
create index obligations_of_request on obligations (request_id);
