-- Purpose: which world this database holds, and the epoch by which writes of each cluster are fenced.
-- First migration; there is no older code to survive it.

-- Exactly one row, written when a database is first used. Agents and edges know the id, so that an empty or different
-- database is noticed instead of wiping anything.
CREATE TABLE world (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    world_id    uuid    NOT NULL,
    -- Raised when a restored backup is adopted.
    incarnation bigint  NOT NULL CHECK (incarnation > 0)
);

CREATE TABLE clusters (
    id              text        PRIMARY KEY,
    -- metadata.uid of namespace kube-system at first contact; another cluster under this id is refused.
    cluster_uid     text        NOT NULL,
    -- Raised by every takeover of the agent stream. A batch of an older epoch finds no row and is dropped.
    epoch           bigint      NOT NULL CHECK (epoch > 0),
    -- The last sequence number of this epoch that is stored.
    durable_seq     bigint      NOT NULL CHECK (durable_seq >= 0),
    -- Keys the digests of anything secret that the cluster reports.
    digest_key      bytea       NOT NULL CHECK (octet_length(digest_key) = 32),
    -- Tombstones up to this position are gone: whoever knows less must load the cluster again.
    compacted_epoch bigint      NOT NULL DEFAULT 0,
    compacted_seq   bigint      NOT NULL DEFAULT 0,
    first_seen_at   timestamptz NOT NULL DEFAULT now()
);
