//! The schema's version: checking it, and bringing it up to date by command.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;

use crate::error::{OpenError, TimedOut};
use crate::pool::Server;
use crate::sql::{identifier, migration_key};

/// What brings a database from schema n to schema n + 1. The length is the newest schema this version knows.
const MIGRATIONS: [&str; 1] = [include_str!("../migrations/0001_sessions.sql")];
/// The schema that this version needs.
pub(crate) const SCHEMA: u32 = MIGRATIONS.len() as u32;
/// PostgreSQL 15, as `server_version_num`.
const SERVER_MIN: i32 = 150_000;

/// What a migration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// The version of the schema before, 0 if there was none.
    pub from: u32,
    /// The version of the schema now.
    pub to: u32,
}

/// Opens a connection outside of a pool.
pub(crate) async fn connect(server: &Server, limit: Duration) -> Result<Client, OpenError> {
    match timeout(limit, server.open_driven(|| {})).await {
        Ok(Ok((client, _))) => Ok(client),
        Ok(Err(error)) => Err(OpenError::connecting(error)),
        Err(_) => Err(OpenError::Unreachable(Box::new(TimedOut))),
    }
}

/// Refuses a server that is too old, and a schema that is missing or not of this version.
pub(crate) async fn check(client: &Client, schema: &str) -> Result<(), OpenError> {
    let version = "SELECT pg_catalog.current_setting('server_version_num')::int";
    let row = client.query_one(version, &[]).await.map_err(|error| OpenError::statement(schema, error))?;
    let found = row.try_get(0).map_err(|error| OpenError::Server(Box::new(error)))?;
    if is_too_old(found) {
        return Err(OpenError::ServerTooOld { found });
    }
    let found = version_of(client, schema).await?;
    let name = || schema.to_owned();
    match found {
        None => Err(OpenError::Missing { schema: name() }),
        Some(found) if found < SCHEMA => Err(OpenError::Older { schema: name(), found, known: SCHEMA }),
        Some(_) => check_rights(client, schema).await,
    }
}

const fn is_too_old(version: i32) -> bool {
    version < SERVER_MIN
}

/// The version of a schema, if it is ours; a newer one is refused.
async fn version_of(client: &Client, schema: &str) -> Result<Option<u32>, OpenError> {
    let sql = format!("SELECT value FROM {}.meta WHERE name = 'schema'", identifier(schema));
    let row = match client.query_opt(&sql, &[]).await {
        Ok(row) => row,
        Err(error) => {
            return match OpenError::statement(schema, error) {
                OpenError::Missing { .. } => Ok(None),
                error => Err(error),
            };
        }
    };
    let unreadable = |error| OpenError::Server(error);
    let Some(row) = row else {
        return Err(unreadable("the table meta does not say the schema's version".into()));
    };
    let value: &str = row.try_get(0).map_err(|error| unreadable(Box::new(error)))?;
    let found: u32 = value.parse().map_err(|error| unreadable(Box::new(error)))?;
    if found > SCHEMA {
        return Err(OpenError::Newer { schema: schema.to_owned(), found, known: SCHEMA });
    }
    Ok(Some(found))
}

/// The statements that are missing, in a transaction; nothing if none are.
pub(crate) async fn pending(client: &Client, schema: &str) -> Result<String, OpenError> {
    let found = version_of(client, schema).await?.unwrap_or(0);
    let missing = MIGRATIONS.get(found as usize..).unwrap_or_default();
    if missing.is_empty() {
        return Ok(String::new());
    }
    let name = identifier(schema);
    let mut script = format!(
        "BEGIN;\n-- One migration at a time.\nSELECT pg_advisory_xact_lock({});\n",
        migration_key(schema)
    );
    // Whoever may not create schemas can be given an empty one.
    let there = "SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1";
    let there =
        client.query_opt(there, &[&schema]).await.map_err(|error| OpenError::statement(schema, error))?;
    if there.is_none() {
        script += &format!("CREATE SCHEMA {name};\n");
    }
    script += &format!("SET LOCAL search_path = {name};\n\n");
    for migration in missing {
        script += migration;
        script += "\n";
    }
    script += "COMMIT;\n";
    Ok(script)
}

/// Runs what [`pending`] gives, unless another was faster.
pub(crate) async fn migrate(client: &Client, schema: &str) -> Result<Migrated, OpenError> {
    let wrap = |error| OpenError::statement(schema, error);
    // Before the version is read, and until the connection is closed. The script takes the same lock once more, for whoever runs
    // it by hand.
    let lock = format!("SELECT pg_catalog.pg_advisory_lock({})", migration_key(schema));
    client.batch_execute(&lock).await.map_err(wrap)?;
    let from = version_of(client, schema).await?.unwrap_or(0);
    let script = pending(client, schema).await?;
    if !script.is_empty() {
        client.batch_execute(&script).await.map_err(|error| match OpenError::statement(schema, error) {
            // Of a table that the script itself refers to, so not what it means elsewhere.
            OpenError::Missing { .. } => OpenError::Server("the migration does not fit the database".into()),
            error => error,
        })?;
    }
    Ok(Migrated { from, to: SCHEMA })
}

/// What a role needs to use the store, and no more.
const RIGHTS: [(&str, &str); 4] = [
    ("meta", "SELECT"),
    ("peppers", "SELECT, INSERT"),
    ("epochs", "SELECT, INSERT, UPDATE, DELETE"),
    ("sessions", "SELECT, INSERT, UPDATE, DELETE"),
];

/// The statements that give a role its rights.
pub(crate) fn grants(schema: &str, role: &str) -> String {
    let (schema, role) = (identifier(schema), identifier(role));
    let mut grants = format!("GRANT USAGE ON SCHEMA {schema} TO {role};\n");
    for (table, rights) in RIGHTS {
        grants += &format!("GRANT {rights} ON {schema}.{table} TO {role};\n");
    }
    grants
}

/// Whether the role has its rights, so that a missing one is found out at the start and not at the first logout.
async fn check_rights(client: &Client, schema: &str) -> Result<(), OpenError> {
    const MISSING: &str =
        "SELECT needed.place, needed.what FROM unnest($1::text[], $2::text[]) AS needed (place, what)
                           WHERE NOT pg_catalog.has_table_privilege(needed.place, needed.what) LIMIT 1";
    let (mut tables, mut rights) = (Vec::new(), Vec::new());
    for (table, list) in RIGHTS {
        // One by one: of several in a list, any would be enough for the server.
        for right in list.split(", ") {
            tables.push(format!("{}.{table}", identifier(schema)));
            rights.push(right);
        }
    }
    let missing = client.query_opt(MISSING, &[&tables, &rights]).await;
    let Some(missing) = missing.map_err(|error| OpenError::statement(schema, error))? else { return Ok(()) };
    let text = |column| missing.try_get::<_, String>(column).unwrap_or_default();
    let source = format!("{} on {} is missing", text(1), text(0)).into();
    Err(OpenError::NotGranted { schema: schema.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_before_15_is_too_old() {
        assert!(is_too_old(140_099));
        assert!(!is_too_old(150_000));
        assert!(!is_too_old(180_004));
    }

    #[test]
    fn grants_quote_the_names() {
        let grants = grants("my \"schema\"", "ro\"le; DROP TABLE x");
        let quoted = "GRANT USAGE ON SCHEMA \"my \"\"schema\"\"\" TO \"ro\"\"le; DROP TABLE x\";\n";
        assert!(grants.starts_with(quoted), "{grants}");
        assert_eq!(grants.matches("TO \"ro\"\"le; DROP TABLE x\";\n").count(), 1 + RIGHTS.len());
    }

    #[test]
    fn each_migration_notes_its_own_version_last() {
        for (version, migration) in (1..).zip(MIGRATIONS) {
            let last = migration.trim_end().lines().next_back().unwrap();
            assert!(last.contains("'schema'") && last.contains(&format!("'{version}'")), "{last}");
        }
    }
}
