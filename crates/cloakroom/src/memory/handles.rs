//! The sessions of each subject.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, BuildHasherDefault};

use cloakroom_core::record::Subject;
use cloakroom_core::token::Handle;

use super::entry::ByHandle;

/// The live sessions of subjects, by a keyed hash of the subject. Two subjects may share a hash: the records
/// say whose each is.
#[derive(Debug, Default)]
pub(super) struct BySubject(HashMap<u64, Handles>);

/// The sessions of a subject: mostly one, which takes no allocation.
#[derive(Debug)]
enum Handles {
    One(Handle),
    // A set, because the end of all of them takes each out.
    #[allow(
        clippy::box_collection,
        reason = "most subjects have one session, and each takes the room of the larger"
    )]
    Many(Box<HashSet<Handle, BuildHasherDefault<ByHandle>>>),
}

impl BySubject {
    /// The sessions of the subject, and possibly of others.
    pub(super) fn of(&self, subject: &Subject) -> Vec<Handle> {
        match self.0.get(&self.hash(subject)) {
            None => Vec::new(),
            Some(Handles::One(handle)) => vec![*handle],
            Some(Handles::Many(handles)) => handles.iter().copied().collect(),
        }
    }

    pub(super) fn add(&mut self, subject: &Subject, handle: Handle) {
        match self.0.entry(self.hash(subject)) {
            Entry::Vacant(vacant) => {
                vacant.insert(Handles::One(handle));
            }
            Entry::Occupied(mut occupied) => match occupied.get_mut() {
                Handles::One(first) => {
                    let both = HashSet::from_iter([*first, handle]);
                    occupied.insert(Handles::Many(Box::new(both)));
                }
                Handles::Many(handles) => {
                    handles.insert(handle);
                }
            },
        }
    }

    pub(super) fn remove(&mut self, subject: &Subject, handle: Handle) {
        let Entry::Occupied(mut occupied) = self.0.entry(self.hash(subject)) else { return };
        let empty = match occupied.get_mut() {
            Handles::One(only) => *only == handle,
            Handles::Many(handles) => {
                handles.remove(&handle);
                handles.is_empty()
            }
        };
        if empty {
            occupied.remove();
        }
    }

    fn hash(&self, subject: &Subject) -> u64 {
        self.0.hasher().hash_one(subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_session_of_a_subject_takes_no_allocation() {
        assert_eq!(size_of::<Handles>(), 24);
    }

    #[test]
    fn a_subject_without_sessions_takes_no_place() {
        let (mut subjects, alice) = (BySubject::default(), Subject::new("alice").unwrap());
        let handles: Vec<_> = (0..100_u8).map(|number| Handle::from_bytes([number; 16])).collect();
        for many in [1, 2, 100] {
            let mut added = handles.get(..many).unwrap().to_vec();
            added.iter().for_each(|handle| subjects.add(&alice, *handle));
            let mut held = subjects.of(&alice);
            held.sort();
            assert_eq!(held, added);
            while let Some(handle) = added.pop() {
                subjects.remove(&alice, handle);
                assert_eq!(subjects.of(&alice).len(), added.len());
            }
            assert!(subjects.0.is_empty());
        }
    }

    /// Subjects with the same hash, as far as the table can tell.
    #[test]
    fn subjects_that_share_a_hash_share_a_set() {
        let (mut subjects, alice) = (BySubject::default(), Subject::new("alice").unwrap());
        let (a, b) = (Handle::from_bytes([1; 16]), Handle::from_bytes([2; 16]));
        subjects.add(&alice, a);
        subjects.add(&alice, b);
        subjects.remove(&alice, Handle::from_bytes([3; 16]));
        assert_eq!(subjects.of(&alice).len(), 2);
    }
}
