-- Schema 1. A migration that has been released is never edited: files of every version are out there.

-- Live sessions and tombstones in one table, so that one unique index keeps a handle from being given out twice and
-- one look-up tells live, ended and absent apart. A rowid table: WITHOUT ROWID is slower at this row size.
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    handle BLOB NOT NULL CHECK (length(handle) = 16),
    -- 0: live. 1: a tombstone; its subject is null, its figures are 0, its body is that of a tombstone.
    ended INTEGER NOT NULL CHECK (ended IN (0, 1)),
    -- Compared byte by byte (BINARY, the default). Null while anonymous.
    subject TEXT,
    version INTEGER NOT NULL,
    -- Times are milliseconds since 1970.
    seen INTEGER NOT NULL,
    created INTEGER NOT NULL,
    idle_ms INTEGER NOT NULL,
    absolute INTEGER NOT NULL,
    -- When the sweeper looks at the row. For a live session the deadline as of when it was written or last looked at: never
    -- later than the real one, but earlier once the session was touched. For a tombstone the instant of the end.
    check_at INTEGER NOT NULL,
    -- Last, so that reading the figures of a large session does not read its data.
    body BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX sessions_by_handle ON sessions (handle);
CREATE INDEX sessions_by_subject ON sessions (subject) WHERE subject IS NOT NULL;
CREATE INDEX sessions_by_check ON sessions (ended, check_at);

-- The last "end all sessions" of each subject that had one.
CREATE TABLE epochs (
    subject TEXT NOT NULL PRIMARY KEY,
    epoch INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT;

CREATE INDEX epochs_by_time ON epochs (at);
