//! The check of all figures of a policy: what the standards forbid, and what contradicts itself.

use std::fmt;
use std::time::Duration;

use super::{ConfigErrors, DAY, MINUTE, Policy, Problem, SECOND};
use crate::data::is_key_name;

/// A duration as configurations write it: `90s`, `2h`.
struct Units(Duration);

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.as_secs();
        match secs {
            _ if self.0.subsec_nanos() != 0 || secs == 0 => write!(f, "{}ms", self.0.as_millis()),
            _ if secs.is_multiple_of(86_400) => write!(f, "{}d", secs / 86_400),
            _ if secs.is_multiple_of(3600) => write!(f, "{}h", secs / 3600),
            _ if secs.is_multiple_of(60) => write!(f, "{}m", secs / 60),
            _ => write!(f, "{secs}s"),
        }
    }
}

impl Policy {
    /// Checks every figure.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every problem at once.
    pub fn check(&self) -> Result<(), ConfigErrors> {
        let mut problems = Vec::new();
        let mut want = |good: bool, key: &str, value: &dyn fmt::Display, expected: &str| {
            if !good {
                problems.push(Problem::new(key, &value.to_string(), expected));
            }
        };
        let ceiling = self.ceiling;
        let lifted = self.beyond_nist.is_some();
        let grace = self.rotation_grace.saturating_add(self.clock_skew);
        want(self.idle >= MINUTE, "policy.idle", &Units(self.idle), "at least 1m");
        want(self.idle <= self.absolute, "policy.idle", &Units(self.idle), "at most policy.absolute");
        want(
            lifted || ceiling.idle.is_none_or(|max| self.idle <= max),
            "policy.idle",
            &Units(self.idle),
            &format!(
                "at most {} (NIST, {}), or policy.insecure_beyond_nist",
                Units(ceiling.idle.unwrap_or_default()),
                ceiling.name
            ),
        );
        want(
            (lifted && !ceiling.hard) || self.absolute <= ceiling.absolute,
            "policy.absolute",
            &Units(self.absolute),
            &if ceiling.hard {
                format!("at most {} (NIST, {}), which nothing lifts", Units(ceiling.absolute), ceiling.name)
            } else {
                format!(
                    "at most {} (NIST, {}), or policy.insecure_beyond_nist",
                    Units(ceiling.absolute),
                    ceiling.name
                )
            },
        );
        want(self.absolute <= 400 * DAY, "policy.absolute", &Units(self.absolute), "at most 400d");
        want(
            self.unpresented >= MINUTE && self.unpresented > self.clock_skew,
            "policy.unpresented",
            &Units(self.unpresented),
            "at least 1m, and longer than policy.clock_skew",
        );
        want(
            self.touch_interval.saturating_add(self.clock_skew) < self.idle,
            "policy.touch_interval",
            &Units(self.touch_interval),
            "together with policy.clock_skew less than policy.idle, or active sessions idle out",
        );
        want(self.clock_skew <= MINUTE, "policy.clock_skew", &Units(self.clock_skew), "at most 1m");
        want(
            self.rotation_grace >= SECOND,
            "policy.rotation_grace",
            &Units(self.rotation_grace),
            "at least 1s",
        );
        // For as long as the grace nothing is kept for a client whose session has just ended.
        want(
            grace < self.absolute,
            "policy.rotation_grace",
            &Units(self.rotation_grace),
            "together with policy.clock_skew less than policy.absolute",
        );
        if let Some(interval) = self.rotation_interval {
            want(
                grace < interval,
                "policy.rotation_interval",
                &Units(interval),
                "longer than policy.rotation_grace and policy.clock_skew together",
            );
            want(
                interval < self.absolute,
                "policy.rotation_interval",
                &Units(interval),
                "shorter than policy.absolute, or no secret is ever replaced",
            );
        }
        want(
            self.tombstone_ttl >= grace,
            "policy.tombstone_ttl",
            &Units(self.tombstone_ttl),
            "at least policy.rotation_grace and policy.clock_skew together",
        );
        want(
            (Duration::from_millis(100)..=5 * MINUTE).contains(&self.watch_interval),
            "policy.watch_interval",
            &Units(self.watch_interval),
            "100ms to 5m",
        );
        // A recent login is counted less the skew: nothing would ever be recent.
        want(
            self.recent_login > self.clock_skew,
            "policy.recent_login",
            &Units(self.recent_login),
            "longer than policy.clock_skew, or no login is ever recent enough",
        );
        want(
            self.recent_login <= self.absolute,
            "policy.recent_login",
            &Units(self.recent_login),
            "at most policy.absolute",
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
