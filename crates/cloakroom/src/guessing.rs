//! Guessing: a network that presents many tokens which are none has its look-ups bounded.
//!
//! Only a look-up tells a genuine token from a forged one. So what exceeds the bound is answered 503, with the cookie left alone, and never
//! as "nobody is signed in": whoever guesses from behind the address of a whole campus must not sign the others out. Sessions that this
//! process has seen alive lately, which are nearly all of those that are in use, are not concerned.
//!
//! All tables have a fixed size.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use cloakroom_core::client::Network;
use cloakroom_core::clock::Timestamp;
use cloakroom_core::policy::{ConfigErrors, Problem};
use cloakroom_core::token::Handle;

/// How much guessing is borne (R-111; OWASP ASVS 5.0 section 6.3.1). Takes effect where the client's address is known:
/// [`SessionLayerBuilder::client_address`](crate::SessionLayerBuilder::client_address).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuessingLimits {
    unknown_tokens: u32,
    look_ups: u32,
    remembered: usize,
}

impl Default for GuessingLimits {
    fn default() -> Self {
        Self { unknown_tokens: 120, look_ups: 50, remembered: 65_536 }
    }
}

impl GuessingLimits {
    /// How many unknown or malformed tokens one network (IPv4 /24, IPv6 /48) may present in a minute before its look-ups are bounded.
    /// Default 120, from 1 to 1,000,000.
    ///
    /// An honest network has some: browsers keep the cookies of sessions that ended long ago.
    #[must_use = "this returns the changed limits"]
    pub const fn unknown_tokens(mut self, per_minute: u32) -> Self {
        self.unknown_tokens = per_minute;
        self
    }

    /// How many look-ups a second such a network has, all its clients together, for sessions that this process has not seen alive
    /// within a day. Default 50, from 1 to 1,000,000.
    #[must_use = "this returns the changed limits"]
    pub const fn look_ups(mut self, per_second: u32) -> Self {
        self.look_ups = per_second;
        self
    }

    /// How many sessions are remembered as seen alive; 8 bytes each. Default 65,536, from 1,024 to 16,777,216.
    #[must_use = "this returns the changed limits"]
    pub const fn remembered(mut self, sessions: usize) -> Self {
        self.remembered = sessions;
        self
    }

    /// Checks the figures.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every problem at once.
    pub fn check(&self) -> Result<(), ConfigErrors> {
        let mut problems = Vec::new();
        for (key, rate) in [("unknown_tokens", self.unknown_tokens), ("look_ups", self.look_ups)] {
            if !(1..=1_000_000).contains(&rate) {
                problems.push(Problem::new(key, &rate.to_string(), "1 to 1000000"));
            }
        }
        if !(1024..=1 << 24).contains(&self.remembered) {
            let expected = "1024 to 16777216";
            problems.push(Problem::new("remembered_sessions", &self.remembered.to_string(), expected));
        }
        ConfigErrors::unless_empty(problems)
    }
}

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;

/// What a layer knows of guessing.
pub(crate) struct Guessing {
    limits: GuessingLimits,
    /// Until when any network is bounded, in microseconds: mostly long ago, and then nothing has to be looked at.
    until: AtomicU64,
    networks: Mutex<Networks>,
    alive: Alive,
}

impl Guessing {
    pub(crate) fn new(limits: GuessingLimits) -> Self {
        Self {
            limits,
            until: AtomicU64::new(0),
            networks: Mutex::default(),
            alive: Alive { size: limits.remembered, table: OnceLock::new() },
        }
    }

    /// Whether the handles may be looked up for a client of a network.
    pub(crate) fn admits(
        &self,
        network: Network,
        handles: impl Iterator<Item = Handle>,
        now: Timestamp,
    ) -> bool {
        let now_micros = micros(now);
        if now_micros >= self.until.load(Ordering::Relaxed) {
            return true;
        }
        let strange = handles.filter(|handle| !self.alive.contains(*handle, now)).count();
        if strange == 0 {
            return true;
        }
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(guests) = networks.find(network) else { return true };
        if !guests.exceeds(now_micros) {
            return true;
        }
        let step = SECOND / u64::from(self.limits.look_ups.max(1));
        let strange = u64::try_from(strange).unwrap_or(u64::MAX);
        let next = guests.look_ups.min(now_micros + SECOND).max(now_micros) + step.saturating_mul(strange);
        if next > now_micros + SECOND {
            return false;
        }
        guests.look_ups = next;
        true
    }

    /// Takes note of tokens that are none.
    pub(crate) fn unknown(&self, network: Network, tokens: usize, now: Timestamp) {
        let now = micros(now);
        let step = MINUTE / u64::from(self.limits.unknown_tokens.max(1));
        let tokens = u64::try_from(tokens).unwrap_or(u64::MAX);
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        let guests = networks.entry(network);
        let unknown = guests.unknown.max(now).saturating_add(step.saturating_mul(tokens));
        guests.unknown = unknown.min(now + 2 * MINUTE);
        if guests.exceeds(now) {
            self.until.fetch_max(guests.unknown - MINUTE, Ordering::Relaxed);
        }
    }

    /// Takes note of a session that is alive.
    pub(crate) fn alive(&self, handle: Handle, now: Timestamp) {
        self.alive.insert(handle, now);
    }
}

impl fmt::Debug for Guessing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guessing").field("limits", &self.limits).finish_non_exhaustive()
    }
}

fn micros(at: Timestamp) -> u64 {
    at.as_millis().saturating_mul(1000)
}

/// Whether a network says something of who is in it: everybody behind a proxy on this machine comes from loopback.
pub(crate) const fn tells(network: &Network) -> bool {
    !matches!(network, Network::V4([127, ..]) | Network::V6([0, 0, 0, 0, 0, 0]))
}

/// A network's clients. Both figures say until when what they have used lasts, in microseconds.
#[derive(Clone, Copy, Default)]
struct Guests {
    network: Option<Network>,
    /// Of the tokens that were none, a minute's worth of which is borne.
    unknown: u64,
    /// Of the look-ups beyond, a second's worth of which is had at once.
    look_ups: u64,
}

impl Guests {
    /// Whether more tokens were none than are borne.
    fn exceeds(&mut self, now: u64) -> bool {
        // A clock that was set back makes nobody wait for it.
        self.unknown = self.unknown.min(now + 2 * MINUTE);
        self.unknown > now + MINUTE
    }
}

const SETS: usize = 1024;
const WAYS: usize = 4;

/// The networks that have presented such tokens lately; of those that fall into one set, those that have presented most.
#[derive(Default)]
struct Networks {
    hash: RandomState,
    sets: Vec<[Guests; WAYS]>,
    /// Never used: for a place that is out of bounds.
    nowhere: Guests,
}

impl Networks {
    fn place(&self, network: Network) -> usize {
        usize::try_from(self.hash.hash_one(network) % SETS as u64).unwrap_or(0)
    }

    fn find(&mut self, network: Network) -> Option<&mut Guests> {
        let place = self.place(network);
        self.sets.get_mut(place)?.iter_mut().find(|guests| guests.network == Some(network))
    }

    fn entry(&mut self, network: Network) -> &mut Guests {
        if self.sets.is_empty() {
            self.sets.resize(SETS, <[Guests; WAYS]>::default());
        }
        let place = self.place(network);
        let Self { sets, nowhere, .. } = self;
        let set = sets.get_mut(place).into_iter().flatten();
        let is_it = |guests: &Guests| guests.network == Some(network);
        let least = set.min_by_key(|guests| (!is_it(guests), guests.unknown));
        let guests = least.unwrap_or(nowhere);
        if !is_it(guests) {
            *guests = Guests { network: Some(network), ..Guests::default() };
        }
        guests
    }
}

/// For how long a session counts as seen alive lately, in minutes.
const LATELY: u64 = 24 * 60;

/// Sessions that were seen alive lately: a part of each handle, and when.
struct Alive {
    size: usize,
    table: OnceLock<Box<[AtomicU64]>>,
}

/// Bits of the minute in an entry; the others are the handle's.
const MINUTE_BITS: u32 = 24;
const MINUTE_MASK: u64 = (1 << MINUTE_BITS) - 1;

impl Alive {
    /// The set of a handle, and its part of an entry. Nobody chooses what is in here: these are handles that were drawn, not presented.
    fn set(&self, handle: Handle) -> (&[AtomicU64], u64) {
        let table = self.table.get_or_init(|| (0..self.size.max(WAYS)).map(|_| AtomicU64::new(0)).collect());
        let [_, _, a, b, c, d, e, place @ .., _] = *handle.as_bytes();
        let part = u64::from_be_bytes([a, b, c, d, e, 0, 0, 0]);
        let sets = table.len() / WAYS;
        let place = place.iter().fold(0_u64, |place, byte| place << 8 | u64::from(*byte));
        let place = usize::try_from(place % sets as u64).unwrap_or(0);
        (table.get(place * WAYS..(place + 1) * WAYS).unwrap_or_default(), part)
    }

    fn contains(&self, handle: Handle, now: Timestamp) -> bool {
        let (set, part) = self.set(handle);
        let entries = set.iter().map(|entry| entry.load(Ordering::Relaxed));
        entries
            .filter(|entry| *entry != 0)
            .any(|entry| entry & !MINUTE_MASK == part && age(entry, now) <= LATELY)
    }

    fn insert(&self, handle: Handle, now: Timestamp) {
        let (set, part) = self.set(handle);
        let fresh = part | minute(now);
        let value = |entry: &AtomicU64| entry.load(Ordering::Relaxed);
        let is_it = |entry: &AtomicU64| value(entry) & !MINUTE_MASK == part;
        let oldest = set.iter().min_by_key(|entry| (!is_it(entry), u64::MAX - age(value(entry), now)));
        if let Some(entry) = oldest.filter(|entry| value(entry) != fresh) {
            entry.store(fresh, Ordering::Relaxed);
        }
    }
}

fn minute(at: Timestamp) -> u64 {
    (at.as_secs() / 60) & MINUTE_MASK
}

/// How many minutes old an entry is; one from a clock that was set back since counts as new.
fn age(entry: u64, now: Timestamp) -> u64 {
    let age = minute(now).wrapping_sub(entry) & MINUTE_MASK;
    match entry {
        0 => u64::MAX,
        _ if age > MINUTE_MASK / 2 => 0,
        _ => age,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn network(n: u32) -> Network {
        Network::V4([(n >> 16) as u8, (n >> 8) as u8, n as u8])
    }

    fn handle(n: u64) -> Handle {
        let mut bytes = [0; 16];
        bytes.iter_mut().enumerate().for_each(|(place, byte)| {
            *byte = (n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (8 * (place % 8))) as u8;
        });
        Handle::from_bytes(bytes)
    }

    fn guessing() -> Guessing {
        Guessing::new(GuessingLimits::default().remembered(1024))
    }

    fn at(millis: u64) -> Timestamp {
        NOW.plus(Duration::from_millis(millis))
    }

    /// Look-ups of sessions that nobody knows, as many as are admitted of a thousand.
    fn admitted(guessing: &Guessing, network: Network, now: Timestamp) -> usize {
        (0..1000).filter(|n| guessing.admits(network, [handle(*n)].into_iter(), now)).count()
    }

    #[test]
    fn r111_a_network_that_presents_too_many_unknown_tokens_shares_a_rate_of_look_ups() {
        let guessing = guessing();
        guessing.unknown(network(1), 120, NOW);
        assert_eq!(admitted(&guessing, network(1), NOW), 1000, "as many as are borne");
        guessing.unknown(network(1), 1, NOW);
        assert_eq!(admitted(&guessing, network(1), NOW), 50);
        assert_eq!(admitted(&guessing, network(1), at(100)), 5);
        assert_eq!(admitted(&guessing, network(1), at(400)), 15);
        assert_eq!(admitted(&guessing, network(2), at(400)), 1000, "another network");
        assert_eq!(admitted(&guessing, network(1), at(499)), 4);
        assert_eq!(
            admitted(&guessing, network(1), at(500)),
            1000,
            "what it has presented is half a second ago"
        );
    }

    #[test]
    fn r111_it_ends_a_minute_after_the_last_guess_however_many_there_were() {
        let guessing = guessing();
        guessing.unknown(network(1), usize::MAX, NOW);
        assert_eq!(admitted(&guessing, network(1), at(59_999)), 50);
        assert_eq!(admitted(&guessing, network(1), at(60_000)), 1000);
    }

    #[test]
    fn r111_sessions_that_were_seen_alive_within_a_day_are_not_concerned() {
        let guessing = guessing();
        guessing.alive(handle(7), NOW);
        guessing.unknown(network(1), 1000, NOW);
        let seven = || [handle(7)].into_iter();
        assert!((0..1000).all(|_| guessing.admits(network(1), seven(), NOW)));
        assert_eq!(admitted(&guessing, network(1), NOW), 51, "the fifty, and number seven");
        let both = [handle(7), handle(8)].into_iter();
        assert!(!guessing.admits(network(1), both, NOW), "the other one of two is a stranger");
        let (day, later) = (24 * 3600 * 1000, 24 * 3600 * 1000 + 60_000);
        assert!(
            guessing.alive.contains(handle(7), at(day)) && !guessing.alive.contains(handle(7), at(later))
        );
    }

    #[test]
    fn r111_neither_a_million_networks_nor_a_million_sessions_take_more_room_or_hide_a_guesser() {
        let guessing = guessing();
        guessing.unknown(network(0), 1000, NOW);
        for n in 1..1_000_000 {
            guessing.unknown(network(n), 1, NOW);
        }
        assert_eq!(admitted(&guessing, network(0), NOW), 50);
        assert_eq!(guessing.networks.lock().unwrap().sets.len(), SETS);
        for n in 0..100_000 {
            guessing.alive(handle(n), NOW);
        }
        assert_eq!(guessing.alive.table.get().unwrap().len(), 1024);
        assert!(guessing.alive.contains(handle(99_999), NOW), "the latest is there");
    }

    #[test]
    fn a_clock_that_is_set_back_lets_nobody_wait_for_it() {
        let guessing = guessing();
        let hour = 3_600_000;
        guessing.unknown(network(1), 1000, at(hour));
        guessing.alive(handle(7), at(hour));
        assert_eq!(admitted(&guessing, network(1), NOW), 50 + 1, "still");
        assert_eq!(admitted(&guessing, network(1), at(60_000)), 1000);
    }

    #[test]
    fn loopback_says_nothing_of_who_is_there() {
        for (address, expected) in [
            (Ipv4Addr::LOCALHOST.into(), false),
            (Ipv6Addr::LOCALHOST.into(), false),
            (Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), false),
            (std::net::IpAddr::from(Ipv4Addr::new(10, 0, 0, 1)), true),
            ("2001:db8::1".parse().unwrap(), true),
        ] {
            assert_eq!(tells(&Network::from(address)), expected, "{address}");
        }
    }

    #[test]
    fn limits_out_of_range_are_named() {
        let limits = GuessingLimits::default().unknown_tokens(0).look_ups(1_000_001).remembered(1023);
        let errors = limits.check().unwrap_err();
        let keys = errors.problems().iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>();
        assert_eq!(keys, ["unknown_tokens", "look_ups", "remembered_sessions"]);
        assert!(GuessingLimits::default().check().is_ok());
    }
}
