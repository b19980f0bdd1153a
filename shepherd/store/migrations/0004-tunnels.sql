-- The ends of the encrypted mesh between sites: each host's address in it and its public keys. Private keys never come here.

create table tunnel_ends (
  host_id text not null primary key,
  body text not null,
  epoch integer not null
);
