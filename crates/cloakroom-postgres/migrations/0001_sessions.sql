-- Schema 1. A migration that has been released is never edited: databases of every version are out there.

-- Live sessions and tombstones in one table, so that one unique index keeps a handle from being given out twice and
-- one look-up tells live, ended and absent apart.
CREATE TABLE sessions (
    handle bytea NOT NULL CONSTRAINT sessions_by_handle PRIMARY KEY CHECK (octet_length(handle) = 16),
    -- True: a tombstone; its subject is null, its figures are 0, its body is that of a tombstone.
    ended boolean NOT NULL,
    -- UTF-8, as bytes: text cannot hold every subject (NUL), and must be compared byte by byte. Null while anonymous.
    subject bytea,
    version bigint NOT NULL,
    -- Times are milliseconds since 1970.
    seen bigint NOT NULL,
    created bigint NOT NULL,
    idle_ms bigint NOT NULL,
    absolute bigint NOT NULL,
    -- When the sweeper looks at the row. For a live session the deadline as of when it was written or last looked at: never
    -- later than the real one, but earlier once the session was touched. For a tombstone the instant of the end.
    check_at bigint NOT NULL,
    body bytea NOT NULL
    -- Noting activity changes no indexed column, so with room on its page a row is rewritten there and no index is touched.
) WITH (fillfactor = 80);

-- Bodies are encrypted: compressing them costs time and saves nothing.
ALTER TABLE sessions ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE INDEX sessions_by_subject ON sessions (subject, handle) WHERE NOT ended AND subject IS NOT NULL;
CREATE INDEX sessions_by_check ON sessions (ended, check_at);

-- The last "end all sessions" of each subject that had one.
CREATE TABLE epochs (
    subject bytea NOT NULL CONSTRAINT epochs_by_subject PRIMARY KEY,
    epoch bigint NOT NULL,
    at bigint NOT NULL
);

CREATE INDEX epochs_by_time ON epochs (at);

-- The public names of the peppers that sessions are sealed with.
CREATE TABLE peppers (
    id bytea NOT NULL PRIMARY KEY CHECK (octet_length(id) = 8)
);

CREATE TABLE meta (
    name text NOT NULL PRIMARY KEY,
    value text NOT NULL
);

INSERT INTO meta (name, value) VALUES ('schema', '1');
