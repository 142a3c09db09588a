//! A session's data map, and changes to it that can be applied again after a conflict.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::error::{ChangeError, EngineError};
use crate::seal::Tampered;

/// The longest name of a data key, in characters.
pub const KEY_NAME_MAX: usize = 64;

/// Whether a text can name a data key: an RFC 9651 key of at most 64 characters, `[a-z][a-z0-9_.-]{0,63}`.
pub const fn is_key_name(name: &str) -> bool {
    let mut rest = name.as_bytes();
    if rest.len() > KEY_NAME_MAX {
        return false;
    }
    let Some((first, tail)) = rest.split_first() else { return false };
    if !first.is_ascii_lowercase() {
        return false;
    }
    rest = tail;
    while let Some((byte, tail)) = rest.split_first() {
        if !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-') {
            return false;
        }
        rest = tail;
    }
    true
}

/// A session's data: JSON texts by key. `Debug` shows the keys only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DataMap(BTreeMap<String, Vec<u8>>);

impl DataMap {
    /// The JSON text under a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key).map(Vec::as_slice)
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all keys and values together.
    pub fn size(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    /// The entries in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    /// Keeps the entries whose key is listed.
    pub(crate) fn keep(&mut self, keys: &[String]) {
        self.0.retain(|key, _| keys.contains(key));
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, EngineError> {
        // Room for the tag, so that sealing does not move the text.
        let len = self.0.iter().map(|(key, value)| key.len() + value.len() + 6).sum::<usize>();
        postcard::to_extend(&self.0, Vec::with_capacity(len + 32)).map_err(|_| EngineError::Sealing)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Tampered> {
        postcard::from_bytes(bytes).map(Self).map_err(|_| Tampered)
    }
}

impl fmt::Debug for DataMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Computes the new JSON text of a key from the stored one; may be called several times.
pub type Update = Arc<dyn Fn(Option<&[u8]>) -> Result<Vec<u8>, String> + Send + Sync>;

#[derive(Clone)]
enum Change {
    Set(Vec<u8>),
    Remove,
    Update(Update),
}

/// What a request wants to change, in order. Borrowed by the engine, because after a conflict it is
/// applied again to the fresh data.
#[derive(Clone, Default)]
pub struct Changes(Vec<(String, Change)>);

impl Changes {
    /// Stores a JSON text. Wins over whatever is stored when it is applied.
    pub fn set(&mut self, key: &str, json: Vec<u8>) {
        self.0.push((key.to_owned(), Change::Set(json)));
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &str) {
        self.0.push((key.to_owned(), Change::Remove));
    }

    /// Computes a value from the stored one. Never lost: after a conflict it runs again on the fresh value.
    pub fn update(&mut self, key: &str, update: Update) {
        self.0.push((key.to_owned(), Change::Update(update)));
    }

    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all changes.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Applies the changes in order.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] if an update cannot read the stored value or write the new one. `data` may then hold some of
    /// the changes and should be thrown away.
    pub fn apply(&self, data: &mut DataMap) -> Result<(), ChangeError> {
        for (key, change) in &self.0 {
            match change {
                Change::Set(json) => {
                    data.0.insert(key.clone(), json.clone());
                }
                Change::Remove => {
                    data.0.remove(key);
                }
                Change::Update(update) => {
                    let json =
                        update(data.get(key)).map_err(|reason| ChangeError { key: key.clone(), reason })?;
                    data.0.insert(key.clone(), json);
                }
            }
        }
        Ok(())
    }

    /// Applies the last change only; for a view that has the ones before it already.
    ///
    /// # Errors
    ///
    /// As [`Changes::apply`]; the change is then taken back and `data` is as before.
    pub fn apply_last(&mut self, data: &mut DataMap) -> Result<(), ChangeError> {
        let Some(last) = self.0.pop() else { return Ok(()) };
        let last = Self(vec![last]);
        last.apply(data)?;
        self.0.extend(last.0);
        Ok(())
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(key, _)| key)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_names_are_rfc_9651_keys_of_at_most_64_characters() {
        for good in ["a", "cart", "a1_.-", &"k".repeat(64)] {
            assert!(is_key_name(good), "{good}");
        }
        for bad in ["", "A", "1a", "_a", "a b", "a*", "ä", "a\n", &"k".repeat(65)] {
            assert!(!is_key_name(bad), "{bad}");
        }
    }

    #[test]
    fn changes_apply_in_order_and_updates_see_what_came_before() {
        let mut changes = Changes::default();
        changes.set("n", b"1".to_vec());
        changes.update("n", Arc::new(|stored| Ok([stored.unwrap_or(b"none"), b"+"].concat())));
        changes.set("gone", b"2".to_vec());
        changes.remove("gone");
        let mut data = DataMap::default();
        changes.apply(&mut data).unwrap();
        assert_eq!(data.iter().collect::<Vec<_>>(), [("n", &b"1+"[..])]);
    }

    #[test]
    fn a_failed_update_is_taken_back_and_changes_nothing() {
        let mut changes = Changes::default();
        let mut data = DataMap::default();
        changes.update("n", Arc::new(|_| Err("no".to_owned())));
        assert_eq!(changes.apply_last(&mut data).unwrap_err().key, "n");
        assert!(changes.is_empty() && data.is_empty());
    }

    #[test]
    fn r108_debug_text_of_data_shows_keys_and_no_values() {
        let mut changes = Changes::default();
        changes.set("card", b"4111-1111".to_vec());
        let mut data = DataMap::default();
        changes.apply(&mut data).unwrap();
        assert_eq!(format!("{data:?} {changes:?}"), r#"{"card"} ["card"]"#);
    }

    #[test]
    fn data_reads_back_as_it_was_encoded() {
        let mut changes = Changes::default();
        changes.set("a", (0..=255).collect());
        changes.set("b", Vec::new());
        let mut data = DataMap::default();
        changes.apply(&mut data).unwrap();
        assert_eq!(DataMap::decode(&data.encode().unwrap()), Ok(data));
    }
}
