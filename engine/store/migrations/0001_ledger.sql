-- Format 1: the log, its end, its signed heads; the list of runs; leases; small blobs.

CREATE TABLE leases (
    run      TEXT    NOT NULL PRIMARY KEY,
    fence    INTEGER NOT NULL, -- only ever grows; the row stays when the lease is given up
    process  TEXT,             -- the mark of the process that holds it (a locked file in run/); NULL: given up
    pid      INTEGER NOT NULL,
    operator TEXT    NOT NULL,
    since_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE leased_hosts (
    host TEXT NOT NULL PRIMARY KEY,
    run  TEXT NOT NULL REFERENCES leases (run)
) STRICT, WITHOUT ROWID;

CREATE INDEX leased_hosts_by_run ON leased_hosts (run);

-- The ledger's end: one row. `base`, `run` and `fence` are what the latest append said of itself; the trigger holds
-- every append to it, whichever program makes it.
CREATE TABLE head (
    id        INTEGER PRIMARY KEY CHECK (id = 0),
    size      INTEGER NOT NULL,
    last_leaf BLOB,
    frontier  BLOB    NOT NULL,
    base      INTEGER NOT NULL,
    run       TEXT,
    fence     INTEGER
) STRICT;

INSERT INTO head (id, size, last_leaf, frontier, base) VALUES (0, 0, NULL, x'', 0);

CREATE TRIGGER head_moves_from_its_base BEFORE UPDATE ON head
BEGIN
    SELECT CASE
        WHEN NEW.run IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM leases WHERE run = NEW.run AND fence = NEW.fence AND process IS NOT NULL
        ) THEN RAISE (ABORT, 'fence lost')
        WHEN NEW.base <> OLD.size THEN RAISE (ABORT, 'head moved')
    END;
END;

CREATE TABLE records (
    seq     INTEGER PRIMARY KEY,
    run     TEXT    NOT NULL,
    run_seq INTEGER NOT NULL,
    leaf    BLOB    NOT NULL,
    bytes   BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX records_by_run ON records (run, run_seq);

CREATE TRIGGER records_never_change BEFORE UPDATE ON records
BEGIN
    SELECT RAISE (ABORT, 'records are never changed');
END;

CREATE TRIGGER records_never_go BEFORE DELETE ON records
BEGIN
    SELECT RAISE (ABORT, 'records are never removed');
END;

CREATE TABLE checkpoints (
    id   INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    note TEXT    NOT NULL
) STRICT;

-- A projection of the log for quick listing.
CREATE TABLE runs (
    run        TEXT    NOT NULL PRIMARY KEY,
    started_ms INTEGER NOT NULL,
    header     TEXT    NOT NULL,
    status     TEXT    NOT NULL CHECK (status IN ('running', 'suspended', 'ended')),
    outcome    TEXT,
    ended_ms   INTEGER
) STRICT;

CREATE TABLE blobs (
    sha256  BLOB    NOT NULL PRIMARY KEY,
    length  INTEGER NOT NULL, -- of the content
    packed  INTEGER NOT NULL CHECK (packed IN (0, 1)), -- 1: compressed with zstd
    content BLOB    NOT NULL
) STRICT;
