//! Typed keys of session data.

use std::fmt;
use std::marker::PhantomData;

use cloakroom_core::data::is_key_name;

/// The name and type of a piece of session data.
///
/// ```
/// use cloakroom::Key;
///
/// const VISITS: Key<u32> = Key::new("visits");
/// ```
///
/// Values are stored as JSON, each under its own key, so a type that changes its shape spoils its own key only.
pub struct Key<T> {
    name: &'static str,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// Names a key: `[a-z][a-z0-9_.-]{0,63}`, as an RFC 9651 key.
    ///
    /// # Panics
    ///
    /// If the name is anything else; at compile time where the key is a `const`, as it should be.
    ///
    /// ```compile_fail
    /// const WRONG: cloakroom::Key<u32> = cloakroom::Key::new("Visits");
    /// ```
    pub const fn new(name: &'static str) -> Self {
        assert!(is_key_name(name), "a data key is named [a-z][a-z0-9_.-]{{0,63}}");
        Self { name, of: PhantomData }
    }

    /// The name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.name)
    }
}
