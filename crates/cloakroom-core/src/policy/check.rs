//! The check of all figures of a policy: what the standards forbid, and what contradicts itself.

use std::fmt;
use std::time::Duration;

use super::{ConfigErrors, DAY, MINUTE, Policy, Problem, SECOND};
use crate::data::is_key_name;

impl Policy {
    /// Checks every figure.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every problem at once.
    pub fn check(&self) -> Result<(), ConfigErrors> {
        let mut problems = Vec::new();
        let mut want = |good: bool, key: &str, value: &dyn fmt::Debug, expected: &str| {
            if !good {
                problems.push(Problem::new(key, &format!("{value:?}"), expected));
            }
        };
        let ceiling = self.ceiling;
        let lifted = self.beyond_nist.is_some();
        let grace = self.rotation_grace.saturating_add(self.clock_skew);
        want(self.idle >= MINUTE, "policy.idle", &self.idle, "at least 1 minute");
        want(self.idle <= self.absolute, "policy.idle", &self.idle, "at most the absolute limit");
        want(
            lifted || ceiling.idle.is_none_or(|max| self.idle <= max),
            "policy.idle",
            &self.idle,
            &format!("at most NIST's {:?} for {}, or insecure_beyond_nist", ceiling.idle, ceiling.name),
        );
        want(
            (lifted && !ceiling.hard) || self.absolute <= ceiling.absolute,
            "policy.absolute",
            &self.absolute,
            &if ceiling.hard {
                format!("at most NIST's {:?} for {}, which nothing lifts", ceiling.absolute, ceiling.name)
            } else {
                format!("at most NIST's {:?} for {}, or insecure_beyond_nist", ceiling.absolute, ceiling.name)
            },
        );
        want(self.absolute <= 400 * DAY, "policy.absolute", &self.absolute, "at most 400 days");
        want(
            self.unpresented >= MINUTE && self.unpresented > self.clock_skew,
            "policy.unpresented",
            &self.unpresented,
            "at least 1 minute, and longer than clock_skew",
        );
        want(
            self.touch_interval.saturating_add(self.clock_skew) < self.idle,
            "policy.touch_interval",
            &self.touch_interval,
            "with clock_skew less than the idle limit, or active sessions idle out",
        );
        want(self.clock_skew <= MINUTE, "policy.clock_skew", &self.clock_skew, "at most 1 minute");
        want(
            self.rotation_grace >= SECOND,
            "policy.rotation_grace",
            &self.rotation_grace,
            "at least 1 second",
        );
        // For as long as the grace nothing is kept for a client whose session has just ended.
        want(
            grace < self.absolute,
            "policy.rotation_grace",
            &self.rotation_grace,
            "with clock_skew less than the absolute limit",
        );
        if let Some(interval) = self.rotation_interval {
            want(
                grace < interval,
                "policy.rotation_interval",
                &interval,
                "longer than rotation_grace and clock_skew together",
            );
            want(
                interval < self.absolute,
                "policy.rotation_interval",
                &interval,
                "shorter than the absolute limit, or no secret is ever replaced; insecure_without_rotation says so in words",
            );
        }
        want(
            self.tombstone_ttl >= grace,
            "policy.tombstone_ttl",
            &self.tombstone_ttl,
            "at least rotation_grace and clock_skew together",
        );
        want(
            (Duration::from_millis(100)..=5 * MINUTE).contains(&self.watch_interval),
            "policy.watch_interval",
            &self.watch_interval,
            "100 milliseconds to 5 minutes",
        );
        // A recent login is counted less the skew: nothing would ever be recent.
        want(
            self.recent_login > self.clock_skew,
            "policy.recent_login",
            &self.recent_login,
            "longer than clock_skew, or no login is ever recent enough",
        );
        want(
            self.recent_login <= self.absolute,
            "policy.recent_login",
            &self.recent_login,
            "at most the absolute limit",
        );
        want(self.cap.is_none_or(|cap| cap.max >= 1), "policy.max_sessions", &0, "at least 1");
        want(
            (1..=1_000_000).contains(&self.data_max),
            "policy.data_max",
            &self.data_max,
            "1 to 1000000 bytes",
        );
        for key in &self.survives_login {
            want(
                is_key_name(key),
                "policy.survives_login",
                key,
                "names of data keys: [a-z][a-z0-9_.-]{0,63}",
            );
        }
        for (key, reason) in [
            ("policy.insecure_beyond_nist", &self.beyond_nist),
            ("policy.insecure_without_rotation", &self.without_rotation),
        ] {
            let empty = reason.as_ref().is_some_and(|reason| reason.trim().is_empty());
            want(!empty, key, &"", "a reason, in words");
        }
        ConfigErrors::unless_empty(problems)
    }
}
