//! The text of every statement, with the schema's name filled in.

/// The server's clock when the statement arrived, in milliseconds since 1970.
const NOW: &str = "pg_catalog.floor(EXTRACT(epoch FROM statement_timestamp()) * 1000)::bigint";

/// The server's clock as the statement looks at it.
const CLOCK: &str = "pg_catalog.floor(EXTRACT(epoch FROM clock_timestamp()) * 1000)::bigint";

/// A name in double quotes, so that it means itself whatever is in it.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What a session of ours must be set to. Server, database and role may have other defaults, and each of these would undo a promise.
/// What is not here is of no consequence: values travel in binary, and neither dates nor texts are compared.
pub(crate) fn settings(timeout_ms: u128) -> String {
    format!(
        "-- One that finds somebody else's operators.
         SET search_path = '';
         -- One that withholds the warning that a commit is not on the standby.
         SET client_min_messages = warning;
         -- One that answers before a logout is on the disk. What waits for more than that stays.
         SELECT set_config('synchronous_commit', 'on', false)
           WHERE current_setting('synchronous_commit') IN ('off', 'local');
         -- Policies on rows would make live sessions absent; this makes them an error.
         SET row_security = off;
         SET standard_conforming_strings = on;
         -- One under which a statement after a lock does not see what the lock's last holder wrote.
         SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE;
         -- Those that end the connections of a pool. The first is of PostgreSQL 17.
         SELECT set_config(name, '0', false) FROM pg_settings
           WHERE name IN ('transaction_timeout', 'idle_session_timeout');
         SET statement_timeout = {timeout_ms}; SET lock_timeout = {timeout_ms};
         SET idle_in_transaction_session_timeout = {timeout_ms};
         -- A plan that was made while the table was small must not scan it when it is large.
         SET enable_seqscan = off;"
    )
}

/// The statements that operations prepare.
pub(crate) struct Sql {
    /// Also the channel's name.
    pub(crate) schema: String,
    pub(crate) find: String,
    pub(crate) list: String,
    pub(crate) insert: String,
    pub(crate) replace: String,
    pub(crate) has_ended: String,
    pub(crate) touch: String,
    pub(crate) taken: String,
    pub(crate) figures: String,
    pub(crate) lock: String,
    pub(crate) lock_subject: String,
    pub(crate) lock_next: String,
    pub(crate) bury: String,
    pub(crate) notify: &'static str,
    pub(crate) epoch: String,
    pub(crate) raise_epoch: String,
    pub(crate) first_epoch: String,
    pub(crate) due: String,
    pub(crate) put_off: String,
    pub(crate) old_tombstones: String,
    pub(crate) forget_tombstones: String,
    pub(crate) old_epochs: String,
    pub(crate) forget_epochs: String,
    pub(crate) peppers: String,
    pub(crate) note_pepper: String,
    /// Two statements that are sent in one go, and so are one transaction.
    pub(crate) probe: String,
}

impl Sql {
    pub(crate) fn new(schema: &str) -> Self {
        let s = identifier(schema);
        // The later of the stored activity and the given one, which the server's clock limits ($5: the skew allowed for).
        let seen = format!("GREATEST(seen, LEAST($4::bigint, {NOW} + $5::bigint))");
        let first_seen = format!("LEAST($4::bigint, {NOW} + $5::bigint)");
        let touched = format!("LEAST($2::bigint, {NOW} + $3::bigint)");
        Self {
            schema: schema.to_owned(),
            find: format!("SELECT ended, version, seen, body FROM {s}.sessions WHERE handle = $1"),
            list: format!(
                "SELECT handle, version, seen, body FROM {s}.sessions WHERE subject = $1 AND NOT ended"
            ),
            insert: format!(
                "INSERT INTO {s}.sessions
                   (handle, ended, subject, version, seen, created, idle_ms, absolute, check_at, body)
                 VALUES ($1, false, $2, $3, {first_seen}, $6, $7::bigint, $8::bigint,
                   LEAST($8::bigint, {first_seen} + $7::bigint), $9)
                 ON CONFLICT (handle) DO NOTHING"
            ),
            // One statement. What the outer query sees is from before the update, and so tells why there was none. `check_at` only
            // ever moves to earlier here, so that an ordinary write leaves the index alone; the sweeper puts it off.
            replace: format!(
                "WITH written AS (
                   UPDATE {s}.sessions SET version = $10, seen = {seen}, created = $6, idle_ms = $7::bigint,
                     absolute = $8::bigint, check_at = LEAST(check_at, $8::bigint, {seen} + $7::bigint), body = $9
                   WHERE handle = $1 AND NOT ended AND version = $3 AND subject IS NOT DISTINCT FROM $2
                   RETURNING 1)
                 SELECT EXISTS (SELECT FROM written), ended, version = $3, subject IS NOT DISTINCT FROM $2
                 FROM {s}.sessions WHERE handle = $1"
            ),
            has_ended: format!("SELECT ended FROM {s}.sessions WHERE handle = $1"),
            touch: format!(
                "UPDATE {s}.sessions SET seen = {touched} WHERE handle = $1 AND NOT ended AND seen < {touched}"
            ),
            taken: format!("SELECT 1 FROM {s}.sessions WHERE handle = $1"),
            // Locked, or whom the cap asks for would be judged by what a logout or a first use in between has changed: one would go
            // although there was room by then, or the wrong one.
            figures: format!(
                "SELECT handle, created, seen, idle_ms, absolute FROM {s}.sessions
                 WHERE subject = $1 AND NOT ended ORDER BY handle FOR NO KEY UPDATE"
            ),
            // In the order of handles, as everywhere that several rows are locked, so that no two wait for each other.
            lock: format!(
                "SELECT handle, version, seen, body FROM {s}.sessions
                 WHERE handle = ANY ($1::bytea[]) AND NOT ended ORDER BY handle FOR UPDATE"
            ),
            lock_subject: format!(
                "SELECT handle, version, seen, body FROM {s}.sessions
                 WHERE subject = $1 AND NOT ended AND handle > $2 AND ($3::bytea IS NULL OR handle <> $3)
                 ORDER BY handle LIMIT $4 FOR UPDATE"
            ),
            lock_next: format!(
                "SELECT handle, version, seen, body FROM {s}.sessions
                 WHERE NOT ended AND handle > $1 ORDER BY handle LIMIT $2 FOR UPDATE"
            ),
            bury: format!(
                "UPDATE {s}.sessions AS session
                 SET ended = true, subject = NULL, version = 0, seen = 0, created = 0, idle_ms = 0, absolute = 0,
                   check_at = grave.at, body = grave.body
                 FROM unnest($1::bytea[], $2::bigint[], $3::bytea[]) AS grave (handle, at, body)
                 WHERE session.handle = grave.handle AND NOT session.ended"
            ),
            notify: "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload",
            // Exactly one row. What the clock shows is read here, under the lock if there is one, not when the transaction began.
            epoch: format!(
                "SELECT {CLOCK}, own.epoch, own.at, everybody.epoch FROM (SELECT 1) AS one
                 LEFT JOIN {s}.epochs AS own ON own.subject = $1
                 LEFT JOIN {s}.epochs AS everybody ON everybody.subject = '\\x'::bytea"
            ),
            // Under the subject's lock: one of the two writes, and nobody comes in between.
            raise_epoch: format!("UPDATE {s}.epochs SET epoch = $2, at = $3 WHERE subject = $1"),
            first_epoch: format!("INSERT INTO {s}.epochs (subject, epoch, at) VALUES ($1, $2, $3)"),
            due: format!(
                "SELECT handle, seen, idle_ms, absolute FROM {s}.sessions
                 WHERE NOT ended AND check_at <= $1 ORDER BY check_at LIMIT $2 FOR UPDATE SKIP LOCKED"
            ),
            put_off: format!(
                "UPDATE {s}.sessions AS session SET check_at = later.at
                 FROM unnest($1::bytea[], $2::bigint[]) AS later (handle, at)
                 WHERE session.handle = later.handle"
            ),
            old_tombstones: format!(
                "SELECT handle FROM {s}.sessions
                 WHERE ended AND check_at < $1 ORDER BY check_at LIMIT $2 FOR UPDATE SKIP LOCKED"
            ),
            forget_tombstones: format!(
                "DELETE FROM {s}.sessions WHERE handle = ANY ($1::bytea[]) AND ended"
            ),
            old_epochs: format!(
                "SELECT subject FROM {s}.epochs WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED"
            ),
            forget_epochs: format!("DELETE FROM {s}.epochs WHERE subject = ANY ($1::bytea[])"),
            peppers: format!("SELECT id FROM {s}.peppers ORDER BY id"),
            note_pepper: format!("INSERT INTO {s}.peppers (id) VALUES ($1) ON CONFLICT DO NOTHING"),
            // A handle that is never given out, and as many bytes as a session with some data has. The commit waits for disk and standbys
            // as that of a login does.
            probe: format!(
                "INSERT INTO {s}.sessions
                   (handle, ended, subject, version, seen, created, idle_ms, absolute, check_at, body)
                 VALUES (decode(repeat('00', 16), 'hex'), true, NULL, 0, 0, 0, 0, 0, 0, decode(repeat('00', 1024), 'hex'));
                 DELETE FROM {s}.sessions WHERE handle = decode(repeat('00', 16), 'hex')"
            ),
        }
    }

    /// The key of the advisory lock under which a subject's sessions are admitted and all ended. Subjects that happen to share a
    /// key wait for each other needlessly; nothing else comes of it.
    pub(crate) fn subject_key(&self, subject: &str) -> i64 {
        key(&[self.schema.as_bytes(), b"subject", subject.as_bytes()])
    }

    /// The key of the advisory lock that each login of a subject shares, and under which the epoch of everybody is raised.
    pub(crate) fn everybody_key(&self) -> i64 {
        key(&[self.schema.as_bytes(), b"everybody"])
    }

    pub(crate) fn pepper_key(&self) -> i64 {
        key(&[self.schema.as_bytes(), b"peppers"])
    }
}

/// The key of the advisory lock under which a schema is migrated.
pub(crate) fn migration_key(schema: &str) -> i64 {
    key(&[schema.as_bytes(), b"migration"])
}

/// FNV-1a, with a separator that no schema's name and no text holds. All servers of a database must agree on it, so it
/// never changes.
fn key(parts: &[&[u8]]) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut take = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    b"cloakroom".iter().for_each(|byte| take(*byte));
    for part in parts {
        take(0xff);
        part.iter().for_each(|byte| take(*byte));
    }
    hash.cast_signed()
}

#[cfg(test)]
mod tests {
    use cloakroom_testkit::servers::Postgres;

    use super::*;

    #[test]
    fn a_name_means_itself_whatever_is_in_it() {
        assert_eq!(identifier("cloakroom"), "\"cloakroom\"");
        assert_eq!(identifier("a\"; DROP TABLE b; --"), "\"a\"\"; DROP TABLE b; --\"");
    }

    /// With the plan that serves for all values, as it is kept for a prepared statement.
    fn plan(server: &Postgres, statement: &str) -> String {
        let parameters = (1..20).take_while(|n| statement.contains(&format!("${n}"))).count();
        let values = vec!["NULL"; parameters].join(", ");
        let settings = settings(60_000);
        server.sql(
            "postgres",
            &format!(
                "{settings} SET plan_cache_mode = force_generic_plan; PREPARE statement AS {statement};
                 EXPLAIN EXECUTE statement{}",
                if parameters == 0 { String::new() } else { format!("({values})") }
            ),
        )
    }

    #[test]
    fn every_statement_finds_its_rows_by_an_index_and_in_order() {
        let server = Postgres::shared();
        let migration = include_str!("../migrations/0001_sessions.sql");
        server.sql("postgres", &format!("CREATE SCHEMA plans; SET search_path = plans; {migration}"));
        server.sql(
            "postgres",
            "INSERT INTO plans.sessions
             SELECT decode(md5(n::text), 'hex'), n % 3 = 0, CASE WHEN n % 3 = 1 THEN decode(md5((n % 500)::text), 'hex') END,
               1, n, n, 1000, n + 9999, n, '' FROM generate_series(1, 20000) AS n;
             INSERT INTO plans.epochs SELECT decode(md5(n::text), 'hex'), n, n FROM generate_series(1, 5000) AS n;
             ANALYZE plans.sessions; ANALYZE plans.epochs",
        );
        let sql = Sql::new("plans");
        // Those that must come out of the index in the order in which they are taken, or they are all sorted for each batch.
        let ordered = [&sql.lock_subject, &sql.lock_next, &sql.due, &sql.old_tombstones, &sql.old_epochs];
        let others = [
            (&sql.find, "sessions_by_handle"),
            (&sql.list, "sessions_by_subject"),
            (&sql.replace, "sessions_by_handle"),
            (&sql.has_ended, "sessions_by_handle"),
            (&sql.touch, "sessions_by_handle"),
            (&sql.taken, "sessions_by_handle"),
            (&sql.figures, "sessions_by_subject"),
            (&sql.lock, "sessions_by_handle"),
            (&sql.bury, "sessions_by_handle"),
            (&sql.epoch, "epochs_by_subject"),
            (&sql.put_off, "sessions_by_handle"),
            (&sql.forget_tombstones, "sessions_by_handle"),
            (&sql.forget_epochs, "epochs_by_subject"),
        ];
        let indexes = [
            "sessions_by_subject",
            "sessions_by_handle",
            "sessions_by_check",
            "sessions_by_check",
            "epochs_by_time",
        ];
        for (statement, index) in ordered.into_iter().zip(indexes).chain(others) {
            let plan = plan(server, statement);
            assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{statement}\n{plan}");
            let sorts = plan.contains("Sort");
            assert!(!sorts || !ordered.contains(&statement), "{statement}\n{plan}");
        }
        for statement in [&sql.insert, &sql.raise_epoch, &sql.first_epoch, &sql.note_pepper, &sql.peppers] {
            plan(server, statement);
        }
    }

    #[test]
    fn the_keys_of_locks_never_change() {
        let sql = Sql::new("cloakroom");
        assert_eq!(sql.subject_key("alice"), 5_986_751_804_398_057_872);
        assert_ne!(sql.subject_key("alice"), sql.subject_key("bob"));
        assert_ne!(sql.subject_key("alice"), Sql::new("other").subject_key("alice"));
    }
}
