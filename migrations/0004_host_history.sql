-- Purpose: what each pool publishes now, and every version before (time travel, audit).
-- Endpoints are not part of a Host: a pod that comes or goes writes nothing here.
-- First version of these tables; there is no older code to survive it.

-- Content-addressed: a host that returns to an earlier version stores no second body.
CREATE TABLE host_bodies (
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 16),
    -- Encoded roadstead.v1.Host.
    body   bytea NOT NULL
);

CREATE TABLE host_revisions (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Both absent in a gap row, which says that the store was away and for how long; see `cause`.
    pool      text,
    host      text,
    -- Absent: from here on the pool does not serve the host.
    digest    bytea       REFERENCES host_bodies (digest),
    -- What changed to cause it: {"CLUSTER": "EPOCH.SEQ", …}. Only clusters that changed in the same step.
    positions jsonb       NOT NULL,
    -- `objects`, `policy`, `start`, or `gap: …`.
    cause     text        NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    CHECK ((pool IS NULL) = (host IS NULL))
);
CREATE INDEX host_revisions_host ON host_revisions (pool, host, id);

-- The latest of each host, so that a restart writes no revision for what did not change.
CREATE TABLE published (
    pool   text  NOT NULL,
    host   text  NOT NULL,
    digest bytea NOT NULL REFERENCES host_bodies (digest),
    PRIMARY KEY (pool, host)
);
