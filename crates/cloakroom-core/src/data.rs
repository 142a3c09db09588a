//! A session's data map, and changes to it that can be applied again after a conflict.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::error::ChangeError;
use crate::few::Few;
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

/// Room for the tag, so that sealing does not move the text.
const ROOM: usize = 32;

/// A session's data: JSON texts by key. `Debug` shows the keys only.
///
/// Kept as it is stored (postcard's form of a map: the number of entries, then key and value of each, all preceded by their lengths),
/// in the order of the keys: to open a session's data is then to decrypt it, whatever its size, and a look-up reads past the keys
/// before.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DataMap {
    count: usize,
    /// The entries, without their number; the number is in `start` bytes before them.
    bytes: Vec<u8>,
    start: usize,
}

impl DataMap {
    /// A map without entries.
    pub const EMPTY: Self = Self { count: 0, bytes: Vec::new(), start: 0 };

    /// The JSON text under a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.find(key).ok().map(|entry| entry.value)
    }

    /// Whether nothing is kept.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all keys and values together.
    pub fn size(&self) -> usize {
        self.raw().map(|entry| entry.key.len() + entry.value.len()).sum()
    }

    /// The entries in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        // Checked when it was decoded.
        self.raw().map(|entry| (str::from_utf8(entry.key).unwrap_or_default(), entry.value))
    }

    /// Keeps the entries whose key is listed.
    pub(crate) fn keep(&mut self, keys: &[String]) {
        let kept = self.raw().filter(|entry| keys.iter().any(|key| key.as_bytes() == entry.key));
        let (count, len) =
            kept.clone().fold((0, 0), |(count, len), entry| (count + 1, len + entry.all.len()));
        if count == 0 {
            *self = Self::EMPTY;
            return;
        }
        let mut map = Self::with_room(count, len);
        kept.for_each(|entry| map.bytes.extend_from_slice(entry.all));
        *self = map;
    }

    /// The form that is sealed, with room for the tag.
    pub(crate) fn into_encoded(mut self) -> Vec<u8> {
        if self.start == 0 {
            self = Self::with_room(0, 0);
        }
        self.bytes
    }

    /// Reads what was encoded. Takes it over as it is, once every length and key was checked.
    pub(crate) fn decode(bytes: Vec<u8>) -> Result<Self, Tampered> {
        let mut rest = bytes.as_slice();
        let count = length(&mut rest).ok_or(Tampered)?;
        let start = bytes.len() - rest.len();
        let mut last = None;
        for _ in 0..count {
            let entry = Entry::read(&mut rest).ok_or(Tampered)?;
            let in_order = last.is_none_or(|last| last < entry.key);
            if !in_order || str::from_utf8(entry.key).is_err() {
                return Err(Tampered);
            }
            last = Some(entry.key);
        }
        if !rest.is_empty() {
            return Err(Tampered);
        }
        Ok(if count == 0 { Self::EMPTY } else { Self { count, bytes, start } })
    }

    fn with_room(count: usize, len: usize) -> Self {
        let mut bytes = Vec::with_capacity(LENGTH_MAX + len + ROOM);
        push_length(&mut bytes, count);
        let start = bytes.len();
        Self { count, bytes, start }
    }

    fn entries(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    fn raw(&self) -> Entries<'_> {
        Entries(self.entries())
    }

    /// The entry of a key; if there is none, the bytes of all entries before its place.
    fn find(&self, key: &str) -> Result<Entry<'_>, usize> {
        let mut before = 0;
        for entry in self.raw() {
            match entry.key.cmp(key.as_bytes()) {
                Ordering::Less => before += entry.all.len(),
                Ordering::Equal => return Ok(entry),
                Ordering::Greater => break,
            }
        }
        Err(before)
    }

    /// A copy that `more` bytes fit into.
    fn roomy(&self, more: usize) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len() + more + ROOM);
        bytes.extend_from_slice(&self.bytes);
        Self { bytes, ..*self }
    }

    /// Puts a value under a key.
    fn put(&mut self, key: &str, value: &[u8]) {
        if self.start == 0 {
            self.bytes.clear();
            self.bytes.reserve(1 + entry_max(key, value) + ROOM);
            self.number(0);
        }
        let at = self.cut(key);
        let before = self.bytes.len();
        for part in [key.as_bytes(), value] {
            push_length(&mut self.bytes, part.len());
            self.bytes.extend_from_slice(part);
        }
        // Written at the end, and turned to its place.
        let written = self.bytes.len() - before;
        if let Some(tail) = self.bytes.get_mut(self.start + at..) {
            tail.rotate_right(written);
        }
        self.number(self.count + 1);
    }

    /// Removes a key.
    fn take(&mut self, key: &str) {
        self.cut(key);
        if self.is_empty() { *self = Self::EMPTY } else { self.number(self.count) }
    }

    /// Cuts the entry of a key out, if there is one, but leaves the number before the entries as it is; returns the key's place.
    fn cut(&mut self, key: &str) -> usize {
        let entries = self.entries().len();
        let (from, to) = match self.find(key) {
            Err(at) => return at,
            Ok(entry) => {
                let from = entries - entry.from_here;
                (from, from + entry.all.len())
            }
        };
        self.bytes.drain(self.start + from..self.start + to);
        self.count -= 1;
        from
    }

    /// Writes the number of entries before them.
    fn number(&mut self, count: usize) {
        let mut number = [0; LENGTH_MAX];
        let len = write_length(&mut number, count);
        self.bytes.splice(..self.start, number.into_iter().take(len));
        (self.count, self.start) = (count, len);
    }
}

impl fmt::Debug for DataMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|(key, _)| key)).finish()
    }
}

/// One entry as it is stored.
struct Entry<'a> {
    key: &'a [u8],
    value: &'a [u8],
    /// Lengths, key and value.
    all: &'a [u8],
    /// Bytes from the beginning of this entry to the end of all.
    from_here: usize,
}

impl<'a> Entry<'a> {
    fn read(rest: &mut &'a [u8]) -> Option<Self> {
        let here = *rest;
        let key = part(rest)?;
        let value = part(rest)?;
        let all = here.get(..here.len() - rest.len())?;
        Some(Self { key, value, all, from_here: here.len() })
    }
}

#[derive(Clone)]
struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        Entry::read(&mut self.0)
    }
}

/// Bytes of the longest length: 35 bits are more than any data has.
const LENGTH_MAX: usize = 5;

/// A length: seven bits a byte, the lowest first, the upper bit saying that more follow.
fn length(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for index in 0..LENGTH_MAX {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            // Never longer than it has to be, so that there is one form of everything.
            return (byte != 0 || index == 0).then_some(value);
        }
    }
    None
}

fn write_length(to: &mut [u8; LENGTH_MAX], mut value: usize) -> usize {
    let mut len = 0;
    for byte in to {
        len += 1;
        *byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            break;
        }
        *byte |= 0x80;
    }
    len
}

fn push_length(bytes: &mut Vec<u8>, value: usize) {
    let mut length = [0; LENGTH_MAX];
    let len = write_length(&mut length, value);
    bytes.extend_from_slice(length.get(..len).unwrap_or_default());
}

/// The most bytes that an entry takes.
const fn entry_max(key: &str, value: &[u8]) -> usize {
    2 * LENGTH_MAX + key.len() + value.len()
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = length(rest)?;
    let (part, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(part)
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
pub struct Changes(Few<(Cow<'static, str>, Change)>);

impl Changes {
    /// Stores a JSON text. Wins over whatever is stored when it is applied.
    pub fn set(&mut self, key: impl Into<Cow<'static, str>>, json: Vec<u8>) {
        self.0.push((key.into(), Change::Set(json)));
    }

    /// Removes a key.
    pub fn remove(&mut self, key: impl Into<Cow<'static, str>>) {
        self.0.push((key.into(), Change::Remove));
    }

    /// Computes a value from the stored one. Never lost: after a conflict it runs again on the fresh value.
    pub fn update(&mut self, key: impl Into<Cow<'static, str>>, update: Update) {
        self.0.push((key.into(), Change::Update(update)));
    }

    /// Whether there is nothing to apply.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all changes.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds the changes of another list behind these.
    pub fn append(&mut self, more: Self) {
        more.0.into_iter().for_each(|change| self.0.push(change));
    }

    /// The keys under which something is stored once all is applied.
    pub(crate) fn stored_keys(&self) -> impl Iterator<Item = &str> {
        let later = |place: usize, key: &str| self.0.iter().skip(place + 1).any(|(other, _)| other == key);
        self.0
            .iter()
            .enumerate()
            .filter(move |(place, (key, change))| !matches!(change, Change::Remove) && !later(*place, key))
            .map(|(_, (key, _))| &**key)
    }

    /// Applies the changes in order.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] if an update cannot read the stored value or write the new one. `data` may then hold some of
    /// the changes and should be thrown away.
    pub fn apply(&self, data: &mut DataMap) -> Result<(), ChangeError> {
        let more = self.0.iter().map(room).sum::<usize>();
        *data = data.roomy(more);
        self.0.iter().try_for_each(|change| apply(change, data))
    }

    /// The data after the last change; for a view that has the ones before it already.
    ///
    /// # Errors
    ///
    /// As [`Changes::apply`].
    pub fn apply_last(&self, data: &DataMap) -> Result<DataMap, ChangeError> {
        let Some(change) = self.0.last() else { return Ok(data.clone()) };
        let mut data = data.roomy(room(change));
        apply(change, &mut data)?;
        Ok(data)
    }
}

/// Bytes that a change may add, as far as it is known.
const fn room((_, change): &(Cow<'static, str>, Change)) -> usize {
    match change {
        Change::Set(json) => json.len() + 2 * LENGTH_MAX + KEY_NAME_MAX,
        Change::Remove | Change::Update(_) => 0,
    }
}

fn apply((key, change): &(Cow<'static, str>, Change), data: &mut DataMap) -> Result<(), ChangeError> {
    match change {
        Change::Set(json) => data.put(key, json),
        Change::Remove => data.take(key),
        Change::Update(update) => {
            let json = update(data.get(key))
                .map_err(|reason| ChangeError { key: key.clone().into_owned(), reason })?;
            data.put(key, &json);
        }
    }
    Ok(())
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
    fn a_failed_update_names_its_key_and_leaves_the_data_alone() {
        let mut changes = Changes::default();
        changes.set("m", b"1".to_vec());
        let mut data = DataMap::default();
        changes.apply(&mut data).unwrap();
        changes.update("n", Arc::new(|_| Err("no".to_owned())));
        assert_eq!(changes.apply_last(&data).unwrap_err().key, "n");
        assert_eq!(data.iter().collect::<Vec<_>>(), [("m", &b"1"[..])]);
    }

    #[test]
    fn lists_of_changes_are_joined_in_order_and_tell_what_they_store() {
        let mut first = Changes::default();
        first.set("a", b"1".to_vec());
        first.set("b", b"1".to_vec());
        first.set("c", b"1".to_vec());
        let mut second = Changes::default();
        second.remove("a");
        second.update("b", Arc::new(|stored| Ok([stored.unwrap_or_default(), b"2"].concat())));
        second.remove("d");
        first.append(second);
        assert_eq!(first.stored_keys().collect::<Vec<_>>(), ["c", "b"]);
        let mut data = DataMap::default();
        first.apply(&mut data).unwrap();
        assert_eq!(data.iter().collect::<Vec<_>>(), [("b", &b"12"[..]), ("c", &b"1"[..])]);
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
        assert_eq!(DataMap::decode(data.clone().into_encoded()), Ok(data));
        assert_eq!(DataMap::decode(DataMap::default().into_encoded()), Ok(DataMap::default()));
    }

    #[test]
    fn a_map_is_what_an_ordered_map_would_be_in_memory_and_as_it_is_stored() {
        let change =
            (0..3_u8, "[a-c]{1,2}", proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300));
        proptest::proptest!(|(steps in proptest::collection::vec(change, 0..200))| {
            let (mut map, mut model) = (DataMap::default(), std::collections::BTreeMap::new());
            for (what, key, value) in steps {
                let mut changes = Changes::default();
                match what {
                    0 => {
                        changes.remove(key.clone());
                        model.remove(&key);
                    }
                    1 => {
                        changes.set(key.clone(), value.clone());
                        model.insert(key, value);
                    }
                    _ => {
                        map.keep(&[key.clone(), "a".to_owned()]);
                        model.retain(|name, _| *name == key || name == "a");
                    }
                }
                changes.apply(&mut map).unwrap();
                let entries = map.iter().map(|(key, value)| (key.to_owned(), value.to_vec()));
                proptest::prop_assert_eq!(entries.collect::<std::collections::BTreeMap<_, _>>(), model.clone());
                proptest::prop_assert_eq!(map.size(), model.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>());
                let encoded = postcard::to_allocvec(&model).unwrap();
                proptest::prop_assert_eq!(&map.clone().into_encoded(), &encoded);
                proptest::prop_assert_eq!(DataMap::decode(encoded), Ok(map.clone()));
            }
        });
    }

    #[test]
    fn many_entries_are_numbered_in_more_than_one_byte() {
        let mut map = DataMap::default();
        let mut model = std::collections::BTreeMap::new();
        for n in 0..300 {
            map.put(&format!("k{n}"), b"v");
            model.insert(format!("k{n}"), b"v".to_vec());
        }
        assert_eq!(map.into_encoded(), postcard::to_allocvec(&model).unwrap());
    }

    #[test]
    fn what_is_no_map_is_refused() {
        let table: [(&str, &[u8]); 8] = [
            ("nothing", b""),
            ("an entry is missing", &[1]),
            ("a value is missing", &[1, 1, b'a']),
            ("a value is cut off", &[1, 1, b'a', 2, 0]),
            ("something follows", &[1, 1, b'a', 0, 0]),
            ("keys are out of order", &[2, 1, b'b', 0, 1, b'a', 0]),
            ("a key comes twice", &[2, 1, b'a', 0, 1, b'a', 0]),
            ("a key is no text", &[1, 1, 0xff, 0]),
        ];
        for (what, bytes) in table {
            assert_eq!(DataMap::decode(bytes.to_vec()), Err(Tampered), "{what}");
        }
        assert!(DataMap::decode(vec![2, 1, b'a', 0, 1, b'b', 0]).is_ok());
    }
}
