//! Addresses: what is understood, what is refused, and that no password shows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use cloakroom_postgres::{OpenError, PostgresOptions};

/// As `Debug` shows it, which is all that is public of it.
fn shown(url: &str) -> String {
    match PostgresOptions::parse(url) {
        Ok(options) => format!("{options:?}"),
        Err(error) => panic!("{url}: {error}"),
    }
}

#[test]
fn the_parts_of_an_address_are_understood() {
    let cases = [
        ("postgres://u@h/d", "hosts: [Tcp(\"h\")], ports: [5432], user: Some(\"u\"), database: Some(\"d\")"),
        ("postgresql://u@h:6000/d", "hosts: [Tcp(\"h\")], ports: [6000]"),
        ("postgres://u:secret@[::1]:7/d", "hosts: [Tcp(\"::1\")], ports: [7]"),
        ("postgres://u@[::1]/d", "hosts: [Tcp(\"::1\")], ports: [5432]"),
        ("postgres://u@a:1,b:2/d", "hosts: [Tcp(\"a\"), Tcp(\"b\")], ports: [1, 2]"),
        ("postgres://u%40x@h/d%2Fe", "user: Some(\"u@x\"), database: Some(\"d/e\")"),
        ("postgres://u@%2Fvar%2Frun/d", "hosts: [Unix(\"/var/run\")]"),
        ("postgres://u@/d?host=/var/run&port=99", "hosts: [Unix(\"/var/run\")], ports: [99]"),
        ("postgres://u@h/d?schema=x&pool_size=3", "schema: \"x\", pool_size: 3"),
    ];
    for (url, part) in cases {
        let shown = shown(url);
        assert!(shown.contains(part), "{url}: {part} is not in {shown}");
    }
}

#[test]
fn r129_connections_over_a_network_are_verified_unless_said_otherwise() {
    let cases = [
        ("postgres://u@h/d", true),
        ("postgres://u@h/d?sslmode=verify-full", true),
        ("postgres://u@h/d?sslmode=disable", false),
        ("postgres://u@10.0.0.1/d", true),
        ("postgres://u@localhost.example.com/d", true),
        ("postgres://u@127.0.0.1,h/d", true),
        ("postgres://u@localhost/d", false),
        ("postgres://u@127.0.0.9/d", false),
        ("postgres://u@[::1]/d", false),
        ("postgres://u@%2Fvar%2Frun/d", false),
        ("postgres://u@localhost/d?sslmode=verify-full", true),
    ];
    for (url, verified) in cases {
        assert!(shown(url).contains(&format!("verified: {verified}")), "{url}");
    }
}

#[test]
fn r129_the_clear_over_a_network_needs_a_reason() {
    let parse = |url| PostgresOptions::parse(url).unwrap();
    let refused = parse("postgres://u@127.0.0.1,h/d?sslmode=disable");
    let error = refused.check().unwrap_err();
    assert!(matches!(&error, OpenError::Plaintext { host } if host == "h"), "{error:?}");
    assert!(error.to_string().contains("sslmode=verify-full"), "{error}");
    refused.insecure_plaintext("a tunnel encrypts").check().unwrap();
    parse("postgres://u@127.0.0.1/d").check().unwrap();
    parse("postgres://u@h/d").check().unwrap();
}

#[test]
fn what_is_wrong_with_an_address_is_named_all_at_once() {
    let url = "postgres://h/?sslmode=require&sslkey=k&pool_size=0&port=x&colour=red&schema=a&schema=b";
    let error = PostgresOptions::parse(url).unwrap_err();
    let wanted = [
        "names no user",
        "names no database",
        "sslmode lets whoever is in between answer",
        "sslcert and sslkey need each other",
        "pool_size is not a number",
        "port is not a number",
        "has a parameter that is none of",
        "schema is there twice",
    ];
    for part in wanted {
        assert!(error.to_string().contains(part), "{part} is not in {error}");
    }
    assert_eq!(error.problems().len(), wanted.len(), "{error}");
}

#[test]
fn addresses_that_cannot_be_meant_are_refused() {
    let cases = [
        ("mysql://u@h/d", "must look like postgres://"),
        ("", "must look like postgres://"),
        ("postgres://u@/d", "names no host"),
        ("postgres://u@a,,b/d", "names no host"),
        ("postgres://u@h:0/d", "must look like"),
        ("postgres://u@h:70000/d", "must look like"),
        ("postgres://u@[::1/d", "must look like"),
        ("postgres://u@[x]/d", "must look like"),
        ("postgres://u@h/d%zz", "must look like"),
        ("postgres://u%ff@h/d", "the user is not percent-encoded UTF-8"),
        ("postgres://u%00@h/d", "the user is not percent-encoded UTF-8"),
        ("postgres://u@h/d?host=g", "names hosts twice"),
        ("postgres://u@h/d?sslmode=verify-ca", "answer as the server"),
        ("postgres://u@h/d?sslmode=prefer", "answer as the server"),
        ("postgres://u@h/d?sslmode=allow", "answer as the server"),
        ("postgres://u@h/d?sslmode=on", "neither verify-full nor disable"),
        ("postgres://u@h/d?sslmode=", "sslmode needs a value"),
        ("postgres://u@/d?host=/run&sslmode=verify-full", "no TLS over a Unix socket"),
        ("postgres://u@localhost/d?sslrootcert=a", "connections would be in the clear"),
        ("postgres://u:p@h/d?password_file=f", "a password and a password_file"),
    ];
    for (url, part) in cases {
        let error = PostgresOptions::parse(url).expect_err(url).to_string();
        assert!(error.contains(part), "{url}: {part} is not in {error}");
    }
}

#[test]
fn r129_no_password_shows_in_an_error_or_in_debug_output() {
    // The last ones forgot to encode it, so that it is split in the wrong places.
    let urls = [
        "postgres://u:hunter2@h/d",
        "postgres://u:hunter2@h/?sslmode=x&y=z",
        "postgres://:hunter2@h/d",
        "postgres://u:hunter2%@h/d",
        "postgres://u:hunter2",
        "postgres://u:1/hunter2@h/d",
        "postgres://u:hunter2/x@h/d",
        "postgres://u:1?hunter2@h/d",
        "postgres://u:1?hunter2&x@h/d",
        "postgres://u:1#hunter2@h/d",
        "postgres://u:1@hunter2@h/d",
        "postgres://u:1@hunter2:x@h/d",
        "postgres://u:1/x?hunter2=x@h/d",
        "mysql://u:hunter2@h/d",
    ];
    for url in urls {
        let shown = match PostgresOptions::parse(url) {
            Ok(options) => format!("{options:?} {:?}", options.check()),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!shown.contains("hunter2"), "{url}: {shown}");
    }
}

#[test]
fn a_schema_has_a_name_that_postgresql_takes() {
    let with = |name: &str| PostgresOptions::parse("postgres://u@localhost/d").unwrap().schema(name).check();
    for name in ["cloakroom", "Über \"alles\"", "x; DROP TABLE y", &"a".repeat(63)] {
        with(name).unwrap();
    }
    for name in ["", "pg_catalog", "a\0b", &"a".repeat(64)] {
        assert!(matches!(with(name), Err(OpenError::SchemaName)), "{name:?}");
    }
}
