//! The section `[limits]`: what a client, or the application, can make the gateway hold or wait for.
//!
//! Every setting has a row in `docs/operator/limits.md`.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;

use super::{Check, duration};
use crate::headers::Limits;

/// The section as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the keys of the file, explained in the file that `cloakroom init` writes")]
pub struct RawLimits {
    pub data_bytes: Option<usize>,
    pub form_bytes: Option<usize>,
    pub housekeeping_timeout: Option<String>,
    pub unknown_tokens: Option<u32>,
    pub look_ups: Option<u32>,
    pub remembered_sessions: Option<usize>,
    pub upstream_timeout: Option<String>,
    pub shutdown_timeout: Option<String>,
}

/// Bounds that can be kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LimitsConfig {
    /// How large a request's head may be.
    pub head: Limits,
    /// Bytes of data that the application may keep in a session, as sent. Default 4 KiB, 1 to 1,000,000.
    pub data_bytes: usize,
    /// Bytes of a form that are read in search of its token. Default 64 KiB, 1 KiB to 1 MiB.
    pub form_bytes: usize,
    /// How long a finished response waits for a note of activity and the like. Default 100 ms, 1 ms to 10 s.
    pub housekeeping_timeout: Duration,
    /// How long the application may take until the head of its response. Default 30 s.
    pub upstream_timeout: Duration,
}

/// The section `[shutdown]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the keys of the file, explained in the file that `cloakroom init` writes")]
pub struct RawShutdown {
    pub drain: Option<String>,
    pub timeout: Option<String>,
}

/// How the gateway stops.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShutdownConfig {
    /// How long the gateway goes on serving after it was told to stop, not ready any more, so that load balancers notice.
    /// Default 0 s.
    pub drain: Duration,
    /// How long requests in flight may take after that. Default 30 s.
    pub timeout: Duration,
}

impl RawShutdown {
    pub(super) fn check(self, check: &mut Check) -> ShutdownConfig {
        ShutdownConfig {
            drain: time(check, "shutdown.drain", self.drain, ms(0), ms(0)..=DAY),
            timeout: time(check, "shutdown.timeout", self.timeout, secs(30), ms(0)..=DAY),
        }
    }
}

impl RawLimits {
    pub(super) fn check(self, check: &mut Check) -> LimitsConfig {
        if let Some(old) = &self.shutdown_timeout {
            check.problem("limits.shutdown_timeout", old, "the same under its new name, shutdown.timeout");
        }
        LimitsConfig {
            head: Limits::default(),
            data_bytes: number(check, "data_bytes", self.data_bytes, 4096, 1..=1_000_000),
            form_bytes: number(check, "form_bytes", self.form_bytes, 64 * 1024, 1024..=1_048_576),
            housekeeping_timeout: time(
                check,
                "limits.housekeeping_timeout",
                self.housekeeping_timeout,
                ms(100),
                ms(1)..=secs(10),
            ),
            upstream_timeout: time(
                check,
                "limits.upstream_timeout",
                self.upstream_timeout,
                secs(30),
                ms(1)..=DAY,
            ),
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);

const fn secs(number: u64) -> Duration {
    Duration::from_secs(number)
}

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// A number of `[limits]` within its range, or its default.
fn number<T: Copy + PartialOrd + Display>(
    check: &mut Check,
    key: &str,
    value: Option<T>,
    default: T,
    range: RangeInclusive<T>,
) -> T {
    let Some(value) = value else { return default };
    if !range.contains(&value) {
        let expected = format!("{} to {}", range.start(), range.end());
        check.problem(&format!("limits.{key}"), value.to_string(), &expected);
    }
    value
}

/// A duration within its range, or its default.
fn time(
    check: &mut Check,
    key: &str,
    value: Option<String>,
    default: Duration,
    range: RangeInclusive<Duration>,
) -> Duration {
    let Some(read) = check.duration(key, value.as_ref()) else { return default };
    if !range.contains(&read) {
        let expected = format!("{} to {}", duration::show(*range.start()), duration::show(*range.end()));
        check.problem(key, value.unwrap_or_default(), &expected);
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Raw;

    fn problems(limits: &str) -> Vec<String> {
        let mut check = Check::default();
        let _ = Raw::parse(&format!("[limits]\n{limits}")).unwrap().limits.check(&mut check);
        check.0.iter().map(|problem| problem.key.clone()).collect()
    }

    #[test]
    fn a_setting_that_was_renamed_is_refused_by_its_new_name() {
        let mut check = Check::default();
        let _ = Raw::parse("[limits]\nshutdown_timeout = \"9s\"").unwrap().limits.check(&mut check);
        let said: Vec<String> = check.0.iter().map(ToString::to_string).collect();
        assert!(said.len() == 1 && said[0].contains("shutdown.timeout"), "{said:?}");
    }

    #[test]
    fn a_bound_outside_its_range_is_refused_by_its_key_and_its_neighbours_are_not() {
        for (key, good, bad) in [
            ("data_bytes", ["1", "1000000"], ["0", "1000001"]),
            ("form_bytes", ["1024", "1048576"], ["1023", "1048577"]),
            ("housekeeping_timeout", ["\"1ms\"", "\"10s\""], ["\"0s\"", "\"11s\""]),
            ("upstream_timeout", ["\"1ms\"", "\"24h\""], ["\"0s\"", "\"25h\""]),
        ] {
            for value in good {
                assert_eq!(problems(&format!("{key} = {value}")), Vec::<String>::new(), "{key} = {value}");
            }
            for value in bad {
                assert_eq!(problems(&format!("{key} = {value}")), [format!("limits.{key}")], "{value}");
            }
        }
    }
}
