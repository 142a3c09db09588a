//! The policy: limits and intervals, with the figures of the standards and one check of all of them.

use std::time::Duration;

use crate::store::{AtCap, Cap, Figures, SweepLimits};

mod check;
mod problem;

pub use problem::{ConfigErrors, Problem};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What to do when a retired secret comes back after its grace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnReplay {
    /// End the session: either of two parties is a thief, and the owner can log in again.
    #[default]
    Revoke,
    /// Refuse the request and leave the session to whoever holds its current secret.
    Refuse,
}

/// NIST's ceilings for an assurance level (SP 800-63B-4 sections 2.1.3, 2.2.3, 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ceiling {
    name: &'static str,
    absolute: Duration,
    idle: Option<Duration>,
    /// Whether the absolute ceiling is a SHALL that no reason lifts.
    hard: bool,
}

const AAL1: Ceiling =
    Ceiling { name: "AAL1", absolute: Duration::from_secs(30 * 86_400), idle: None, hard: false };
const AAL2: Ceiling = Ceiling { name: "AAL2", absolute: DAY, idle: Some(HOUR), hard: false };
const AAL3: Ceiling = Ceiling {
    name: "AAL3",
    absolute: Duration::from_secs(12 * 3600),
    idle: Some(Duration::from_secs(900)),
    hard: true,
};

/// The limits of sessions. [`Policy::default`] suits most applications; every figure says its default.
///
/// Idle and absolute limit are written into a session when it is made, so a changed policy holds for sessions that
/// begin, or authenticate again, after the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(crate) idle: Duration,
    pub(crate) absolute: Duration,
    pub(crate) unpresented: Duration,
    pub(crate) touch_interval: Duration,
    pub(crate) rotation_interval: Option<Duration>,
    pub(crate) rotation_grace: Duration,
    pub(crate) recent_login: Duration,
    pub(crate) clock_skew: Duration,
    pub(crate) tombstone_ttl: Duration,
    pub(crate) watch_interval: Duration,
    pub(crate) on_replay: OnReplay,
    pub(crate) cap: Option<Cap>,
    pub(crate) survives_login: Vec<String>,
    pub(crate) data_max: usize,
    ceiling: Ceiling,
    beyond_nist: Option<String>,
    without_rotation: Option<String>,
}

impl Default for Policy {
    /// Idle 30 minutes, absolute 24 hours, rotation every 15 minutes; ceilings as for AAL1.
    fn default() -> Self {
        Self {
            idle: 30 * MINUTE,
            absolute: DAY,
            unpresented: 10 * MINUTE,
            touch_interval: MINUTE,
            rotation_interval: Some(15 * MINUTE),
            rotation_grace: MINUTE,
            recent_login: 5 * MINUTE,
            clock_skew: 5 * SECOND,
            tombstone_ttl: HOUR,
            watch_interval: 5 * SECOND,
            on_replay: OnReplay::default(),
            cap: None,
            survives_login: Vec::new(),
            data_max: 16 * 1024,
            ceiling: AAL1,
            beyond_nist: None,
            without_rotation: None,
        }
    }
}

impl Policy {
    /// NIST AAL1: absolute 30 days. NIST leaves the idle limit open there; ours is 24 hours.
    pub fn aal1() -> Self {
        Self { idle: DAY, absolute: AAL1.absolute, ceiling: AAL1, ..Self::default() }
    }

    /// NIST AAL2: absolute 24 hours, idle 1 hour.
    pub fn aal2() -> Self {
        Self { idle: HOUR, absolute: AAL2.absolute, ceiling: AAL2, ..Self::default() }
    }

    /// NIST AAL3: absolute 12 hours, which is a ceiling that no reason lifts; idle 15 minutes.
    pub fn aal3() -> Self {
        Self { idle: 15 * MINUTE, absolute: AAL3.absolute, ceiling: AAL3, ..Self::default() }
    }

    /// Ends a session after this long without user activity. Default 30 minutes.
    #[must_use = "this returns the changed policy"]
    pub const fn idle(mut self, limit: Duration) -> Self {
        self.idle = limit;
        self
    }

    /// Ends a session this long after its authentication, whatever the activity. Default 24 hours.
    #[must_use = "this returns the changed policy"]
    pub const fn absolute(mut self, limit: Duration) -> Self {
        self.absolute = limit;
        self
    }

    /// Ends an anonymous session this long after it was made unless its token has come back by then. Default 10
    /// minutes, at least 1 and longer than the clock skew; without effect where it is not shorter than the idle
    /// limit.
    ///
    /// # Security
    ///
    /// Whoever asks without a cookie is given a session wherever something is stored for him. This limit is for how
    /// long a flood of such requests fills the store (OWASP ASVS 5.0, 2.4.1).
    #[must_use = "this returns the changed policy"]
    pub const fn unpresented(mut self, limit: Duration) -> Self {
        self.unpresented = limit;
        self
    }

    /// Notes activity at most this often. Default 60 seconds. A session may idle out this much early, never late.
    #[must_use = "this returns the changed policy"]
    pub const fn touch_interval(mut self, interval: Duration) -> Self {
        self.touch_interval = interval;
        self
    }

    /// Replaces the secret this often while a session is in use. Default 15 minutes; longer than the grace, shorter than the absolute
    /// limit.
    #[must_use = "this returns the changed policy"]
    pub const fn rotation_interval(mut self, interval: Duration) -> Self {
        self.rotation_interval = Some(interval);
        self
    }

    /// Never replaces the secret on schedule.
    ///
    /// # Security
    ///
    /// A stolen token then works until the session ends, and its theft is not noticed.
    #[must_use = "this returns the changed policy"]
    pub fn insecure_without_rotation(mut self, reason: impl Into<String>) -> Self {
        self.rotation_interval = None;
        self.without_rotation = Some(reason.into());
        self
    }

    /// Accepts a replaced secret for this long after its successor was first seen. Default 60 seconds: browsers
    /// write cookies to disk late.
    #[must_use = "this returns the changed policy"]
    pub const fn rotation_grace(mut self, grace: Duration) -> Self {
        self.rotation_grace = grace;
        self
    }

    /// How old an authentication may be to count as recent. Default 5 minutes, longer than the clock skew, by which it is shortened
    ///
    #[must_use = "this returns the changed policy"]
    pub const fn recent_login(mut self, age: Duration) -> Self {
        self.recent_login = age;
        self
    }

    /// How far the clocks of instances may differ: limits are shortened and graces lengthened by it. Default 5 seconds.
    #[must_use = "this returns the changed policy"]
    pub const fn clock_skew(mut self, skew: Duration) -> Self {
        self.clock_skew = skew;
        self
    }

    /// How long is remembered why a session ended. Default 1 hour.
    #[must_use = "this returns the changed policy"]
    pub const fn tombstone_ttl(mut self, ttl: Duration) -> Self {
        self.tombstone_ttl = ttl;
        self
    }

    /// Looks a session this often up for whoever waits for its end, such as an open WebSocket. Default 5 seconds, from 100
    /// milliseconds to 5 minutes.
    ///
    /// # Security
    ///
    /// The bound on how long a connection can outlive its session where the store tells nobody of ends.
    #[must_use = "this returns the changed policy"]
    pub const fn watch_interval(mut self, interval: Duration) -> Self {
        self.watch_interval = interval;
        self
    }

    /// What to do when a retired secret comes back after its grace. Default [`OnReplay::Revoke`].
    #[must_use = "this returns the changed policy"]
    pub const fn on_replay(mut self, on_replay: OnReplay) -> Self {
        self.on_replay = on_replay;
        self
    }

    /// Limits the live sessions of one subject, exactly, also under parallel logins. No limit by default.
    #[must_use = "this returns the changed policy"]
    pub const fn max_sessions(mut self, max: u32, at_cap: AtCap) -> Self {
        self.cap = Some(Cap { max, at_cap });
        self
    }

    /// Lists data keys that cross from the anonymous session into the one that a login makes. None by default.
    #[must_use = "this returns the changed policy"]
    pub fn survives_login<'a>(mut self, keys: impl IntoIterator<Item = &'a str>) -> Self {
        self.survives_login = keys.into_iter().map(str::to_owned).collect();
        self
    }

    /// The most bytes a session's data may take. Default 16 KiB, up to 1,000,000.
    #[must_use = "this returns the changed policy"]
    pub const fn data_max(mut self, bytes: usize) -> Self {
        self.data_max = bytes;
        self
    }

    /// Allows limits beyond the preset's NIST figures (but never beyond AAL3's 12 hours).
    ///
    /// # Security
    ///
    /// A token that was stolen, or a browser that was left open, works for longer than NIST finds acceptable.
    #[must_use = "this returns the changed policy"]
    pub fn insecure_beyond_nist(mut self, reason: impl Into<String>) -> Self {
        self.beyond_nist = Some(reason.into());
        self
    }

    /// How old an authentication may be to count as recent.
    pub const fn recent(&self) -> Duration {
        self.recent_login
    }

    /// The idle limit.
    pub const fn idle_limit(&self) -> Duration {
        self.idle
    }

    /// The absolute limit.
    pub const fn absolute_limit(&self) -> Duration {
        self.absolute
    }

    /// How long an anonymous session lasts whose token never came back.
    pub const fn unpresented_limit(&self) -> Duration {
        self.unpresented
    }

    /// How often the secret is replaced on schedule; `None` for never.
    pub const fn rotation(&self) -> Option<Duration> {
        self.rotation_interval
    }

    /// How long a replaced secret is good for.
    pub const fn grace(&self) -> Duration {
        self.rotation_grace
    }

    /// The cap on the sessions of one subject.
    pub const fn session_cap(&self) -> Option<Cap> {
        self.cap
    }

    /// The most bytes a session's data may take.
    pub const fn data_limit(&self) -> usize {
        self.data_max
    }

    /// How far the clocks of instances may differ.
    pub const fn skew(&self) -> Duration {
        self.clock_skew
    }

    /// How often a session is looked up for whoever waits for its end.
    pub const fn watching(&self) -> Duration {
        self.watch_interval
    }

    /// What a sweep under this policy takes: batches of 32 entries, because others may wait for one; tombstones after their time;
    /// entries of "end all sessions" only once every session of their time has ended.
    pub fn sweep_limits(&self) -> SweepLimits {
        let Figures { tombstone_ttl, epoch_ttl, .. } = self.figures();
        SweepLimits { batch: 32, tombstone_ttl, epoch_ttl }
    }

    /// What a store needs of this policy.
    pub fn figures(&self) -> Figures {
        let epoch_ttl = self.absolute.max(AAL1.absolute).saturating_add(DAY);
        Figures { clock_skew: self.clock_skew, tombstone_ttl: self.tombstone_ttl, epoch_ttl }
    }
}
