-- Format 4: what is to be told to people outside. Nothing here is evidence: what became of a message is a notice in the log.

CREATE TABLE outbox (
    id          TEXT    NOT NULL PRIMARY KEY, -- the same news to the same channel has the same one
    channel     TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    run         TEXT,
    news        TEXT    NOT NULL,             -- news/v1
    created_ms  INTEGER NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    next_ms     INTEGER NOT NULL,             -- not before
    state       TEXT    NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'given_up')),
    answer      TEXT    NOT NULL DEFAULT '',  -- to the last attempt
    sha256      BLOB,                         -- of what was sent last
    settled_ms  INTEGER,
    recorded    INTEGER NOT NULL DEFAULT 0 CHECK (recorded IN (0, 1)), -- its notice is in the log
    claimed_by  TEXT,                         -- the mark of the process that sends it now
    claimed_ms  INTEGER                       -- until when that counts
) STRICT;

CREATE INDEX outbox_open ON outbox (next_ms) WHERE state = 'waiting';
CREATE INDEX outbox_unrecorded ON outbox (settled_ms) WHERE state <> 'waiting' AND recorded = 0;
