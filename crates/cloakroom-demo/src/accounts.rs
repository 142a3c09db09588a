//! Who may sign in.

use subtle::ConstantTimeEq;

/// An account, with its password in the clear: the login page shows both, so there is nothing to protect. A real
/// application keeps a slow, salted hash instead (argon2id), and never the password.
pub(crate) struct Account {
    /// What sessions and notes belong to. Not the name: names change hands, and the subject stands in the clear in logs and in the
    /// store.
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) password: &'static str,
}

/// The two accounts.
pub(crate) const ACCOUNTS: [Account; 2] = [
    Account { id: "u1001", name: "alice", password: "wonderland-42" },
    Account { id: "u1002", name: "bob", password: "builder-42" },
];

/// The account that name and password belong to. Looks at every account and at both fields of each, so that the time
/// taken does not tell a known name from an unknown one; only lengths may show.
pub(crate) fn verify(name: &str, password: &str) -> Option<&'static Account> {
    ACCOUNTS.iter().fold(None, |found, account| {
        let same_name = name.as_bytes().ct_eq(account.name.as_bytes());
        let same_password = password.as_bytes().ct_eq(account.password.as_bytes());
        if bool::from(same_name & same_password) { Some(account) } else { found }
    })
}

/// What a subject is called; by its id if there is no such account.
pub(crate) fn name_of(subject: &str) -> &str {
    ACCOUNTS.iter().find(|account| account.id == subject).map_or(subject, |account| account.name)
}

#[cfg(test)]
mod tests {
    use super::{name_of, verify};

    #[test]
    fn only_the_right_pairs_are_accepted() {
        for (name, password, right) in [
            ("alice", "wonderland-42", Some("u1001")),
            ("bob", "builder-42", Some("u1002")),
            ("alice", "builder-42", None),
            ("bob", "wonderland-42", None),
            ("Alice", "wonderland-42", None),
            ("u1001", "wonderland-42", None),
            ("alice", "wonderland-42 ", None),
            ("alice", "", None),
            ("", "", None),
        ] {
            assert_eq!(verify(name, password).map(|account| account.id), right, "{name:?} {password:?}");
        }
    }
    #[test]
    fn whoever_is_unknown_is_called_by_the_id() {
        assert_eq!((name_of("u1002"), name_of("u9")), ("bob", "u9"));
    }
}
