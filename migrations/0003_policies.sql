-- Purpose: every accepted policy file; the row with the highest revision is in force.
-- First version of this table; there is no older code to survive it.

CREATE TABLE policies (
    -- Assigned by compare-and-set: an import that lost a race finds its number taken.
    rev         bigint      PRIMARY KEY CHECK (rev > 0),
    digest      bytea       NOT NULL CHECK (octet_length(digest) = 16),
    -- The file as it was written.
    body        text        NOT NULL,
    -- Where it came from.
    source      text        NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT now()
);
