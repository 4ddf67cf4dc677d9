-- Purpose: several controllers on one database, where each cluster stands, and which other worlds this one continues.
-- Survives older code: it fences and writes as before, and every new column has a default that means "as before".

ALTER TABLE world
    -- World ids whose edges a person told to follow this world.
    ADD adopted uuid[] NOT NULL DEFAULT '{}';

-- 0: the row was just made and nobody has held the cluster yet.
ALTER TABLE clusters DROP CONSTRAINT clusters_epoch_check, ADD CONSTRAINT clusters_epoch_check CHECK (epoch >= 0);

ALTER TABLE clusters
    -- The first synchronisation of the epoch is complete and stored.
    ADD settled             boolean  NOT NULL DEFAULT false,
    -- In which incarnation of the world an epoch settled last.
    ADD settled_incarnation bigint   NOT NULL DEFAULT 0,
    -- Every epoch below this one is superseded by an epoch that settled.
    ADD epoch_floor         bigint   NOT NULL DEFAULT 0,
    -- How far the epochs since then were stored: epoch, seq, epoch, seq …, ascending.
    ADD epoch_ends          bigint[] NOT NULL DEFAULT '{}',
    -- The replica that holds the agent's stream, its process, and that agent. Absent: nobody does.
    ADD live_by             text,
    ADD live_instance       text,
    ADD live_agent          text,
    -- When the stream was lost.
    ADD lost_at             timestamptz,
    ADD lifecycle           text     NOT NULL DEFAULT 'active',
    -- Step of an activation or drain, 0 to 100.
    ADD percent             smallint NOT NULL DEFAULT 100 CHECK (percent BETWEEN 0 AND 100),
    -- fresh, stale or expired.
    ADD liveness            text     NOT NULL DEFAULT 'fresh',
    -- Absent: no step is due. A drain goes down to 0, anything else up to 100.
    ADD ramp_since          timestamptz,
    ADD ramp_from           smallint,
    ADD ramp_seconds        bigint,
    ADD lifecycle_at        timestamptz NOT NULL DEFAULT now(),
    ADD lifecycle_by        text     NOT NULL DEFAULT '',
    ADD lifecycle_reason    text     NOT NULL DEFAULT '';

-- Controllers on this database. A row whose heartbeat is old is of one that is gone.
CREATE TABLE replicas (
    id           text        PRIMARY KEY,
    -- Where its peers reach it: HOST:PORT.
    address      text        NOT NULL,
    version      text        NOT NULL,
    -- Drawn by each process: what one held before it was restarted it holds no more.
    instance     text        NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL
);

-- Who may do what only one may do. The token rises with every new holder and fences what former holders still write.
CREATE TABLE leases (
    name       text        PRIMARY KEY,
    holder     text        NOT NULL,
    token      bigint      NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Raised within every transaction that changes something which all replicas must notice.
CREATE TABLE stamps (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Holds and overrides.
    keeps    bigint  NOT NULL,
    -- Where clusters stand.
    clerk    bigint  NOT NULL
);
INSERT INTO stamps (keeps, clerk) VALUES (1, 1);

-- Nobody saw it being deleted: a list lacked it.
ALTER TABLE tombstones ADD inferred boolean NOT NULL DEFAULT false;

-- For what changed since a position.
CREATE INDEX objects_position ON objects (cluster, epoch, seq);
CREATE INDEX tombstones_position ON tombstones (cluster, epoch, seq);
