-- Purpose: what the blast-radius guard must know after a restart.
-- Survives older code: it writes no Holds, and new code then judges what it finds published.

CREATE TABLE holds (
    id         text        PRIMARY KEY,
    -- Open, or closed with an effect that lasts. What a start reads; all others are history.
    live       boolean     NOT NULL,
    -- Pool, scope, cause, hosts, state and who decided; readable by people.
    document   jsonb       NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX holds_live ON holds (id) WHERE live;

-- Expected removals and freezes. A row goes when it ends.
CREATE TABLE overrides (
    id       text  PRIMARY KEY,
    document jsonb NOT NULL
);

-- Backends to which held hosts refer and which no object describes any more: without them a restart could not serve
-- what is held.
CREATE TABLE kept_backends (
    -- CLUSTER/NAMESPACE/SERVICE:PORT.
    id   text  PRIMARY KEY,
    -- Encoded roadstead.v1.Backend.
    body bytea NOT NULL
);

-- For what was withdrawn within the guard's window.
CREATE INDEX host_revisions_at ON host_revisions (at);
