//! Texts that are not to be shown, and addresses without what is not to be shown of them.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::Deserialize;

/// A text that may hold a password: read as any text, but never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl Deref for Hidden {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// For the command line.
impl FromStr for Hidden {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// What an address's query may show the value of: settings that are no secrets.
const SHOWN: [&str; 14] = [
    "application_name",
    "ca_file",
    "cert_file",
    "connect_timeout",
    "dbname",
    "host",
    "insecure_plaintext",
    "key_file",
    "password_file",
    "port",
    "prefix",
    "schema",
    "sslmode",
    "user",
];

/// An address such as `postgres://me:secret@host/db` as it may be shown: `postgres://me:***@host/db`.
///
/// Rather hides too much: whatever stands between the first colon and the last `@`, and all values of the query but those known
/// to be harmless. Where even that cannot be told apart, the scheme alone is shown.
pub(crate) fn mask(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // `redis:password@host` and the like: nobody knows what the parts are.
        return url.split_once(':').map_or_else(|| "***".to_owned(), |(scheme, _)| format!("{scheme}:***"));
    };
    let (user, rest) = match rest.rsplit_once('@') {
        None => (String::new(), rest),
        Some((user, _)) if user.contains(['?', '#']) => return format!("{scheme}://***"),
        Some((user, rest)) => match user.split_once([':', '/']) {
            None => (format!("{user}@"), rest),
            Some((name, _)) => (format!("{name}:***@"), rest),
        },
    };
    let Some((place, query)) = rest.split_once(['?', '#']) else { return format!("{scheme}://{user}{rest}") };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, _)) if SHOWN.contains(&key) => pair.to_owned(),
        Some((key, _)) => format!("{key}=***"),
        None => "***".to_owned(),
    });
    format!("{scheme}://{user}{place}?{}", pairs.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r108_a_password_in_an_address_is_never_shown_whatever_it_is_made_of() {
        let table = [
            ("postgres://me:s3cret@db.internal:5432/app", "postgres://me:***@db.internal:5432/app"),
            ("postgres://me@db/app", "postgres://me@db/app"),
            ("postgres:///app?host=/run/pg&sslmode=disable", "postgres:///app?host=/run/pg&sslmode=disable"),
            ("redis://:s3cret@h:6379/0", "redis://:***@h:6379/0"),
            ("redis-cluster://me:s3cret@h1:1,h2:2", "redis-cluster://me:***@h1:1,h2:2"),
            ("redis-cluster://me:s3cret@h1:1,me:s3cret@h2:2", "redis-cluster://me:***@h2:2"),
            ("postgres://me:s3@cret@h/app", "postgres://me:***@h/app"),
            ("postgres://me:s3/cret@h/app", "postgres://me:***@h/app"),
            ("postgres://me:s3?cret@h/app", "postgres://***"),
            ("postgres://me:s3#cret@h/app", "postgres://***"),
            ("postgres://h/app?password=s3@cret", "postgres://***"),
            ("postgres://h/app?password=s3cret", "postgres://h/app?password=***"),
            ("postgres://h/app?sslpassword=s3cret&s3cret", "postgres://h/app?sslpassword=***&***"),
            ("postgres://h/app?password_file=/etc/pw", "postgres://h/app?password_file=/etc/pw"),
            ("redis:s3cret@h", "redis:***"),
            ("s3cret", "***"),
        ];
        for (url, shown) in table {
            assert_eq!(mask(url), shown);
            assert!(!shown.contains("s3"), "{shown}");
        }
    }

    #[test]
    fn r108_a_hidden_text_does_not_show_in_debug() {
        assert_eq!(format!("{:?}", Hidden::from("s3cret".to_owned())), "(hidden)");
    }
}
