-- Format 3: which occurrences of schedules are settled. The key is what keeps two programs from running the same one; the
-- row comes in the transaction of the record that settles it, and stays whatever becomes of that.

CREATE TABLE occurrences (
    schedule TEXT    NOT NULL,
    at_ms    INTEGER NOT NULL,
    run      TEXT    NOT NULL, -- `installation`: it was not run, and a notice says why
    seq      INTEGER NOT NULL,
    PRIMARY KEY (schedule, at_ms)
) STRICT, WITHOUT ROWID;

CREATE INDEX occurrences_by_time ON occurrences (at_ms);

CREATE TRIGGER occurrences_are_settled_once BEFORE INSERT ON occurrences
BEGIN
    SELECT CASE
        WHEN EXISTS (SELECT 1 FROM occurrences WHERE schedule = NEW.schedule AND at_ms = NEW.at_ms)
        THEN RAISE (ABORT, 'occurrence settled')
    END;
END;
