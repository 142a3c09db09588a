//! The bytes of a record. Their form is that of postcard (numbers in groups of seven bits, lengths before texts and lists, a byte
//! before what may be absent); it is written out here because every request reads a record, and field by field through a general
//! deserialiser that took longer than to look the record up. The tests hold both to the same bytes.

use crate::client::{Browser, Client, Network, System};
use crate::clock::Timestamp;
use crate::record::{Authentication, Body, Level, Next, Previous, Secrets, Subject, Terms};
use crate::seal::{Digest, PepperId, SealedData, ShortDigest, Slot};
use crate::store::{Reason, Tombstone};

/// Browsers by their number in a record. Only ever added to at the end.
const BROWSERS: [Browser; 9] = [
    Browser::Unknown,
    Browser::Firefox,
    Browser::Chrome,
    Browser::Edge,
    Browser::Opera,
    Browser::Safari,
    Browser::SamsungInternet,
    Browser::Curl,
    Browser::Other,
];

/// Systems by their number in a record. Only ever added to at the end.
const SYSTEMS: [System; 7] = [
    System::Unknown,
    System::Windows,
    System::MacOs,
    System::Linux,
    System::Android,
    System::Ios,
    System::ChromeOs,
];

/// What is left to read.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for index in 0..10 {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // Of the tenth byte only one bit has room.
            if index == 9 && byte > 1 {
                return None;
            }
            value |= bits << (7 * index);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn len(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.len()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        str::from_utf8(self.bytes()?).ok()
    }

    fn time(&mut self) -> Option<Timestamp> {
        self.number().map(Timestamp::from_millis)
    }

    fn option<T>(&mut self, some: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.byte()? {
            0 => Some(None),
            1 => some(self).map(Some),
            _ => None,
        }
    }

    /// A list. No room is made in advance: the length is not to be trusted.
    fn list<T>(&mut self, element: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let len = self.len()?;
        (0..len).map(|_| element(self)).collect()
    }

    pub(crate) fn body(&mut self) -> Option<Body> {
        Some(Body {
            terms: self.terms()?,
            client: self.client()?,
            secrets: self.secrets()?,
            data: SealedData { nonce: self.array()?, text: self.bytes()?.to_vec() },
        })
    }

    pub(crate) fn terms(&mut self) -> Option<Terms> {
        Some(Terms {
            subject: self.option(Self::subject)?,
            created: self.time()?,
            authentication: self.option(Self::authentication)?,
            idle_ms: self.number()?,
            absolute: self.time()?,
        })
    }

    pub(crate) fn tombstone(&mut self) -> Option<Tombstone> {
        // Reasons are numbered from 0 here.
        let code = self.number()?.checked_add(1)?;
        Some(Tombstone {
            reason: Reason::from_code(u8::try_from(code).ok()?)?,
            at: self.time()?,
            digests: self.list(|reader| reader.array().map(ShortDigest))?,
        })
    }

    fn subject(&mut self) -> Option<Subject> {
        Subject::new(self.text()?).ok()
    }

    fn authentication(&mut self) -> Option<Authentication> {
        Some(Authentication {
            at: self.time()?,
            level: Level::try_from(self.byte()?).ok()?,
            methods: self.list(|reader| reader.text().map(str::to_owned))?,
        })
    }

    fn client(&mut self) -> Option<Client> {
        Some(Client {
            browser: *BROWSERS.get(self.len()?)?,
            system: *SYSTEMS.get(self.len()?)?,
            network: self.option(|reader| match reader.number()? {
                0 => reader.array().map(Network::V4),
                1 => reader.array().map(Network::V6),
                _ => None,
            })?,
        })
    }

    fn secrets(&mut self) -> Option<Secrets> {
        Some(Secrets {
            current: self.slot()?,
            issued: self.time()?,
            confirmed: self.option(Self::time)?,
            next: self
                .option(|reader| Some(Box::new(Next { slot: reader.slot()?, salt: reader.array()? })))?,
            previous: self
                .option(|reader| Some(Box::new(Previous { slot: reader.slot()?, salt: reader.array()? })))?,
            retired: self.list(|reader| reader.array().map(ShortDigest))?,
            fresh: self.byte()?,
            strangers: self.list(|reader| u32::try_from(reader.number()?).ok())?,
        })
    }

    fn slot(&mut self) -> Option<Slot> {
        Some(Slot {
            pepper: PepperId::from_bytes(self.array()?),
            digest: Digest(self.array()?),
            wrapped: self.array()?,
            tag: self.array()?,
        })
    }
}

/// Where a record is written to.
pub(crate) trait Sink {
    fn byte(&mut self, byte: u8);
    fn raw(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn byte(&mut self, byte: u8) {
        self.push(byte);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts the bytes only, so that room is made once and exactly.
pub(crate) struct Counted(pub(crate) usize);

impl Sink for Counted {
    fn byte(&mut self, _: u8) {
        self.0 += 1;
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// What writes.
pub(crate) struct Writer<S>(pub(crate) S);

impl<S: Sink> Writer<S> {
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.byte((value & 0x7f) as u8);
    }

    fn byte(&mut self, byte: u8) {
        self.0.byte(byte);
    }

    fn len(&mut self, len: usize) {
        self.number(len as u64);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.raw(bytes);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.raw(bytes);
    }

    fn time(&mut self, time: Timestamp) {
        self.number(time.as_millis());
    }

    fn option<T>(&mut self, option: Option<T>, some: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(option.is_some()));
        if let Some(value) = option {
            some(self, value);
        }
    }

    fn list<T>(&mut self, list: &[T], element: impl Fn(&mut Self, &T)) {
        self.len(list.len());
        list.iter().for_each(|value| element(self, value));
    }

    pub(crate) fn body(&mut self, body: &Body) {
        let Body { terms, client, secrets, data } = body;
        self.terms(terms);
        self.client(client);
        self.secrets(secrets);
        self.raw(&data.nonce);
        self.bytes(&data.text);
    }

    fn terms(&mut self, terms: &Terms) {
        let Terms { subject, created, authentication, idle_ms, absolute } = terms;
        self.option(subject.as_ref(), |writer, subject| writer.bytes(subject.as_str().as_bytes()));
        self.time(*created);
        self.option(authentication.as_ref(), |writer, Authentication { at, level, methods }| {
            writer.time(*at);
            writer.byte(level.get());
            writer.list(methods, |writer, method| writer.bytes(method.as_bytes()));
        });
        self.number(*idle_ms);
        self.time(*absolute);
    }

    pub(crate) fn tombstone(&mut self, tombstone: &Tombstone) {
        let Tombstone { reason, at, digests } = tombstone;
        self.number(u64::from(reason.code()) - 1);
        self.time(*at);
        self.list(digests, |writer, digest| writer.raw(&digest.0));
    }

    fn client(&mut self, client: &Client) {
        let Client { browser, system, network } = client;
        self.len(BROWSERS.iter().position(|known| known == browser).unwrap_or_default());
        self.len(SYSTEMS.iter().position(|known| known == system).unwrap_or_default());
        self.option(network.as_ref(), |writer, network| match network {
            Network::V4(bytes) => {
                writer.byte(0);
                writer.raw(bytes);
            }
            Network::V6(bytes) => {
                writer.byte(1);
                writer.raw(bytes);
            }
        });
    }

    fn secrets(&mut self, secrets: &Secrets) {
        let Secrets { current, issued, confirmed, next, previous, retired, fresh, strangers } = secrets;
        self.slot(current);
        self.time(*issued);
        self.option(*confirmed, Self::time);
        self.option(next.as_deref(), |writer, Next { slot, salt }| {
            writer.slot(slot);
            writer.raw(salt);
        });
        self.option(previous.as_deref(), |writer, Previous { slot, salt }| {
            writer.slot(slot);
            writer.raw(salt);
        });
        self.list(retired, |writer, digest| writer.raw(&digest.0));
        self.byte(*fresh);
        self.list(strangers, |writer, mark| writer.number((*mark).into()));
    }

    fn slot(&mut self, slot: &Slot) {
        let Slot { pepper, digest, wrapped, tag } = slot;
        self.raw(pepper.as_bytes());
        self.raw(&digest.0);
        self.raw(wrapped);
        self.raw(tag);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slots() -> impl Strategy<Value = Slot> {
        let parts = any::<([u8; 8], [u8; 16], [u8; 32], [u8; 16])>();
        parts.prop_map(|(pepper, digest, wrapped, tag)| Slot {
            pepper: PepperId::from_bytes(pepper),
            digest: Digest(digest),
            wrapped,
            tag,
        })
    }

    fn turns() -> impl Strategy<Value = Option<(Slot, [u8; 16])>> {
        prop::option::of((slots(), any::<[u8; 16]>()))
    }

    fn terms() -> impl Strategy<Value = Terms> {
        let who = (".{1,40}", any::<u64>(), 1..=3_u8, prop::collection::vec("[a-z0-9_-]{1,16}", 0..=8));
        (prop::option::of(who), any::<[u64; 3]>()).prop_map(|(who, [created, idle_ms, absolute])| {
            let (subject, authentication) = who
                .map(|(subject, at, level, methods)| {
                    let level = Level::try_from(level).unwrap();
                    let authentication = Authentication { at: Timestamp::from_millis(at), level, methods };
                    (Subject::new(subject).unwrap(), authentication)
                })
                .unzip();
            let (created, absolute) = (Timestamp::from_millis(created), Timestamp::from_millis(absolute));
            Terms { subject, created, authentication, idle_ms, absolute }
        })
    }

    fn clients() -> impl Strategy<Value = Client> {
        let network = prop_oneof![
            Just(None),
            any::<[u8; 3]>().prop_map(|bytes| Some(Network::V4(bytes))),
            any::<[u8; 6]>().prop_map(|bytes| Some(Network::V6(bytes))),
        ];
        (0..BROWSERS.len(), 0..SYSTEMS.len(), network).prop_map(|(browser, system, network)| Client {
            browser: BROWSERS[browser],
            system: SYSTEMS[system],
            network,
        })
    }

    fn bodies() -> impl Strategy<Value = Body> {
        let times = (any::<u64>(), any::<Option<u64>>());
        let retired = prop::collection::vec(any::<[u8; 8]>().prop_map(ShortDigest), 0..=16);
        let rest = (retired, any::<u8>(), any::<Vec<u32>>(), any::<[u8; 12]>(), any::<Vec<u8>>());
        (terms(), clients(), slots(), times, turns(), turns(), rest).prop_map(
            |(terms, client, current, (issued, confirmed), next, previous, rest)| {
                let (retired, fresh, strangers, nonce, text) = rest;
                let secrets = Secrets {
                    current,
                    issued: Timestamp::from_millis(issued),
                    confirmed: confirmed.map(Timestamp::from_millis),
                    next: next.map(|(slot, salt)| Box::new(Next { slot, salt })),
                    previous: previous.map(|(slot, salt)| Box::new(Previous { slot, salt })),
                    retired,
                    fresh,
                    strangers,
                };
                Body { terms, client, secrets, data: SealedData { nonce, text } }
            },
        )
    }

    fn tombstones() -> impl Strategy<Value = Tombstone> {
        let digests = prop::collection::vec(any::<[u8; 8]>().prop_map(ShortDigest), 0..=19);
        (1..=8_u8, any::<u64>(), digests).prop_map(|(code, at, digests)| Tombstone {
            reason: Reason::from_code(code).unwrap(),
            at: Timestamp::from_millis(at),
            digests,
        })
    }

    proptest! {
        #[test]
        fn a_body_is_written_and_read_as_postcard_would(body in bodies()) {
            let mut writer = Writer(Vec::new());
            writer.body(&body);
            prop_assert_eq!(&writer.0, &postcard::to_allocvec(&body).unwrap());
            let mut counted = Writer(Counted(0));
            counted.body(&body);
            prop_assert_eq!(counted.0.0, writer.0.len());
            let mut reader = Reader(&writer.0);
            prop_assert_eq!(reader.body(), Some(body));
            prop_assert!(reader.0.is_empty());
        }

        #[test]
        fn what_postcard_refuses_is_refused(body in bodies(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = postcard::to_allocvec(&body).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let expected = postcard::take_from_bytes::<Body>(&bytes).ok();
            let mut reader = Reader(&bytes);
            let read = reader.body();
            prop_assert_eq!(read.map(|body| (body, reader.0)), expected);
        }

        #[test]
        fn a_tombstone_is_written_and_read_as_postcard_would(tombstone in tombstones()) {
            let mut writer = Writer(Vec::new());
            writer.tombstone(&tombstone);
            prop_assert_eq!(&writer.0, &postcard::to_allocvec(&tombstone).unwrap());
            prop_assert_eq!(Reader(&writer.0).tombstone(), Some(tombstone));
        }

        #[test]
        fn what_postcard_refuses_of_a_tombstone_is_refused(
            tombstone in tombstones(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = postcard::to_allocvec(&tombstone).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let expected = postcard::take_from_bytes::<Tombstone>(&bytes).ok();
            let mut reader = Reader(&bytes);
            let read = reader.tombstone();
            prop_assert_eq!(read.map(|tombstone| (tombstone, reader.0)), expected);
        }

        #[test]
        fn what_is_cut_off_is_refused(body in bodies(), at in any::<prop::sample::Index>()) {
            let bytes = postcard::to_allocvec(&body).unwrap();
            prop_assert_eq!(Reader(&bytes[..at.index(bytes.len())]).body(), None);
        }
    }

    #[test]
    fn a_number_takes_no_more_than_64_bits() {
        let all = [0xff; 9];
        assert_eq!(Reader(&[&all[..], &[1]].concat()).number(), Some(u64::MAX));
        assert_eq!(Reader(&[&all[..], &[2]].concat()).number(), None);
        assert_eq!(Reader(&[&all[..], &[0x81, 0]].concat()).number(), None);
    }
}
