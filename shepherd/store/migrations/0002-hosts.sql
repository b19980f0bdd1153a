-- What people said about hosts, and the name of this journal's line: a copy or a restored backup has the same, another
-- installation has another, and hosts tell them apart by it.

alter table shepherd add column lineage text not null default '';

create table host_marks (
  host_id text not null,
  kind text not null,
  body text not null,
  epoch integer not null,
  primary key (host_id, kind)
);
