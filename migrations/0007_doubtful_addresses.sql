-- Whether the pod addresses of a cluster may be those of others by now: nobody has reported them for too long.
ALTER TABLE clusters ADD doubtful boolean NOT NULL DEFAULT false;
