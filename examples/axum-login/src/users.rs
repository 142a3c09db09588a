//! The application's users. Yours live in a database.

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash};
use cloakroom::Subject;

/// A password cannot be hashed.
pub type HashError = argon2::password_hash::Error;

/// A user.
///
/// A session belongs to the id, not to the name: names and addresses change hands, and whoever gets one must not get the sessions
/// with it. The id also stands in the clear in logs and in the store.
#[derive(Debug)]
pub struct User {
    id: String,
    name: String,
    hash: String,
    known: bool,
}

impl User {
    /// What sessions belong to.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether a password is this user's. Takes a while, on purpose.
    pub fn verify(&self, password: &str) -> bool {
        let Ok(hash) = PasswordHash::new(&self.hash) else { return false };
        Argon2::default().verify_password(password.as_bytes(), &hash).is_ok() && self.known
    }
}

/// All of them.
#[derive(Debug)]
pub struct Users {
    known: Vec<User>,
    /// Stands in where there is no such user, so that the answer takes as long.
    nobody: User,
}

impl Users {
    /// Two accounts to play with.
    ///
    /// # Errors
    ///
    /// [`HashError`] if a password cannot be hashed.
    pub fn demo() -> Result<Self, HashError> {
        Ok(Self {
            known: vec![user("u1001", "alice", "wonderland-42")?, user("u1002", "bob", "builder-42")?],
            nobody: User { known: false, ..user("nobody", "nobody", "nobody has this password")? },
        })
    }

    /// Whoever signs in by a name; for an unknown one, somebody whose password is always wrong.
    pub fn named(&self, name: &str) -> &User {
        self.known.iter().find(|user| user.name == name).unwrap_or(&self.nobody)
    }

    /// Whose session it is; for an id that is not known any more, somebody whose password is always wrong.
    pub fn of(&self, subject: &Subject) -> &User {
        self.known.iter().find(|user| user.id == subject.as_str()).unwrap_or(&self.nobody)
    }

    /// What the pages call whoever is signed in.
    pub fn name(&self, subject: &Subject) -> String {
        self.of(subject).name.clone()
    }
}

fn user(id: &str, name: &str, password: &str) -> Result<User, HashError> {
    Ok(User { id: id.to_owned(), name: name.to_owned(), hash: hash(password)?, known: true })
}

fn hash(password: &str) -> Result<String, HashError> {
    Ok(Argon2::default().hash_password(password.as_bytes())?.to_string())
}
