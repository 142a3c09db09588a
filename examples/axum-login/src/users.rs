//! The application's users. Yours live in a database.

use std::collections::BTreeMap;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash};

/// A password cannot be hashed.
pub type HashError = argon2::password_hash::Error;

/// Names and password hashes.
#[derive(Debug)]
pub struct Users {
    hashes: BTreeMap<String, String>,
    /// Verified where there is no such user, so that the answer takes as long.
    nobody: String,
}

impl Users {
    /// Two accounts to play with.
    ///
    /// # Errors
    ///
    /// [`HashError`] if a password cannot be hashed.
    pub fn demo() -> Result<Self, HashError> {
        let mut hashes = BTreeMap::new();
        for (name, password) in [("alice", "wonderland-42"), ("bob", "builder-42")] {
            hashes.insert(name.to_owned(), hash(password)?);
        }
        Ok(Self { hashes, nobody: hash("nobody has this password")? })
    }

    /// Whether a password is a user's. Takes a while, on purpose.
    pub fn verify(&self, name: &str, password: &str) -> bool {
        let known = self.hashes.get(name);
        let Ok(hash) = PasswordHash::new(known.unwrap_or(&self.nobody)) else { return false };
        let right = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
        right && known.is_some()
    }
}

fn hash(password: &str) -> Result<String, HashError> {
    Ok(Argon2::default().hash_password(password.as_bytes())?.to_string())
}
