//! Who may sign in.

use subtle::{Choice, ConstantTimeEq};

/// An account, with its password in the clear: the login page shows both, so there is nothing to protect. A real
/// application keeps a slow, salted hash instead (argon2id), and never the password.
pub(crate) struct Account {
    pub(crate) name: &'static str,
    pub(crate) password: &'static str,
}

/// The two accounts.
pub(crate) const ACCOUNTS: [Account; 2] =
    [Account { name: "alice", password: "wonderland-42" }, Account { name: "bob", password: "builder-42" }];

/// Whether name and password belong together. Looks at every account and at both fields of each, so that the time
/// taken does not tell a known name from an unknown one; only lengths may show.
pub(crate) fn verify(name: &str, password: &str) -> bool {
    ACCOUNTS
        .iter()
        .fold(Choice::from(0), |found, account| {
            let same_name = name.as_bytes().ct_eq(account.name.as_bytes());
            let same_password = password.as_bytes().ct_eq(account.password.as_bytes());
            found | (same_name & same_password)
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::verify;

    #[test]
    fn only_the_right_pairs_are_accepted() {
        for (name, password, right) in [
            ("alice", "wonderland-42", true),
            ("bob", "builder-42", true),
            ("alice", "builder-42", false),
            ("bob", "wonderland-42", false),
            ("Alice", "wonderland-42", false),
            ("alice", "wonderland-42 ", false),
            ("alice", "", false),
            ("", "", false),
        ] {
            assert_eq!(verify(name, password), right, "{name:?} {password:?}");
        }
    }
}
