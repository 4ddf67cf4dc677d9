-- Purpose: the last known objects of every cluster, and what was removed recently.
-- First version of these tables; there is no older code to survive it.

CREATE TABLE objects (
    cluster   text     NOT NULL REFERENCES clusters (id),
    -- 1 IngressClass, 2 Ingress, 3 Service, 4 EndpointSlice.
    kind      smallint NOT NULL,
    -- Empty for cluster-scoped kinds.
    namespace text     NOT NULL,
    name      text     NOT NULL,
    -- As the agent made it; echoed, never recomputed.
    digest    bytea    NOT NULL CHECK (octet_length(digest) = 16),
    -- Where in the cluster's history this version was accepted.
    epoch     bigint   NOT NULL,
    seq       bigint   NOT NULL,
    -- The object as the agent sent it (protobuf). This is what a start reads.
    packed    bytea    NOT NULL,
    -- The same for people, in the shape of the Kubernetes API. Never read by the controller. Absent for EndpointSlices:
    -- as jsonb a pod that comes or goes costs ten times the WAL.
    document  jsonb,
    PRIMARY KEY (cluster, kind, namespace, name)
) WITH (fillfactor = 80);

CREATE TABLE tombstones (
    cluster    text        NOT NULL REFERENCES clusters (id),
    kind       smallint    NOT NULL,
    namespace  text        NOT NULL,
    name       text        NOT NULL,
    epoch      bigint      NOT NULL,
    seq        bigint      NOT NULL,
    removed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster, kind, namespace, name)
);
CREATE INDEX tombstones_removed_at ON tombstones (removed_at);
