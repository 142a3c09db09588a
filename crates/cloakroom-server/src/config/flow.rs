//! The part of `[limits]` that bounds what is under way between clients and the application.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::limits::RawLimits;
use super::{Check, duration};
use crate::bound::Bounds;
use crate::held::Held;
use crate::pace::Pace;
use crate::upstream::Keep;

/// Bounds on what is under way.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Flow {
    /// How many requests and streams at once.
    pub bounds: Bounds,
    /// How much of bodies is held.
    pub held: Held,
    /// How fast bodies have to be.
    pub pace: Pace,
    /// Which unused connections to the application are kept.
    pub keep: Keep,
}

const DAY: Duration = Duration::from_secs(86_400);

impl RawLimits {
    pub(super) fn flow(&self, check: &mut Check) -> Flow {
        let mut flow = Flow::default();
        let Flow { bounds, held, pace, keep } = &mut flow;
        let many = 1..=1_000_000;
        number(
            check,
            "connection_requests",
            self.connection_requests,
            &mut bounds.connection_requests,
            &many,
        );
        number(check, "address_requests", self.address_requests, &mut bounds.address_requests, &many);
        number(check, "requests", self.requests, &mut bounds.all_requests, &many);
        number(check, "upstream_requests", self.upstream_requests, &mut bounds.requests, &many);
        number(check, "address_streams", self.address_streams, &mut bounds.address_streams, &many);
        number(check, "streams", self.streams, &mut bounds.streams, &many);
        number(check, "body_buffer_bytes", self.body_buffer_bytes, &mut held.each, &(0..=1 << 30));
        number(check, "buffers_bytes", self.buffers_bytes, &mut held.all, &(0..=1 << 40));
        number(check, "min_rate", self.min_rate, &mut pace.rate, &(0..=1_000_000_000));
        let (second, none) = (Duration::from_secs(1), Duration::ZERO);
        time(
            check,
            "rate_grace",
            self.rate_grace.as_ref(),
            &mut pace.grace,
            &(Duration::from_millis(10)..=DAY),
        );
        time(check, "transfer_time", self.transfer_time.as_ref(), &mut pace.time, &(second..=DAY * 365));
        let idle = self.upstream_idle_timeout.as_ref();
        time(check, "upstream_idle_timeout", idle, &mut keep.time, &(none..=DAY));
        let idle = self.upstream_idle_connections;
        number(check, "upstream_idle_connections", idle, &mut keep.connections, &(0..=1_000_000));
        flow
    }
}

fn number<T: PartialOrd + Display>(
    check: &mut Check,
    key: &str,
    value: Option<T>,
    into: &mut T,
    range: &RangeInclusive<T>,
) {
    let Some(value) = value else { return };
    if range.contains(&value) {
        *into = value;
    } else {
        let expected = format!("{} to {}", range.start(), range.end());
        check.problem(&format!("limits.{key}"), value.to_string(), &expected);
    }
}

fn time(
    check: &mut Check,
    key: &str,
    value: Option<&String>,
    into: &mut Duration,
    range: &RangeInclusive<Duration>,
) {
    let key = format!("limits.{key}");
    let Some(read) = check.duration(&key, value) else { return };
    if range.contains(&read) {
        *into = read;
    } else {
        let expected = format!("{} to {}", duration::show(*range.start()), duration::show(*range.end()));
        check.problem(&key, value.map_or("", String::as_str), &expected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Raw;

    #[test]
    fn a_bound_on_what_is_under_way_is_taken_within_its_range_and_refused_beyond() {
        let problems = |limits: &str| {
            let mut check = Check::default();
            Raw::parse(&format!("[limits]\n{limits}")).unwrap().limits.flow(&mut check);
            check.problems.iter().map(|problem| problem.key.clone()).collect::<Vec<_>>()
        };
        for (key, good, bad) in [
            ("connection_requests", ["1", "1000000"], ["0", "1000001"]),
            ("address_requests", ["1", "1000000"], ["0", "1000001"]),
            ("requests", ["1", "1000000"], ["0", "1000001"]),
            ("upstream_requests", ["1", "1000000"], ["0", "1000001"]),
            ("address_streams", ["1", "1000000"], ["0", "1000001"]),
            ("streams", ["1", "1000000"], ["0", "1000001"]),
            ("body_buffer_bytes", ["0", "1073741824"], ["1073741825", "9999999999"]),
            ("buffers_bytes", ["0", "1099511627776"], ["1099511627777", "9999999999999"]),
            ("min_rate", ["0", "1000000000"], ["1000000001", "9999999999"]),
            ("rate_grace", ["\"10ms\"", "\"24h\""], ["\"0s\"", "\"25h\""]),
            ("transfer_time", ["\"1s\"", "\"365d\""], ["\"0s\"", "\"366d\""]),
            ("upstream_idle_timeout", ["\"0s\"", "\"24h\""], ["\"soon\"", "\"25h\""]),
            ("upstream_idle_connections", ["0", "1000000"], ["1000001", "9999999"]),
        ] {
            for value in good {
                assert_eq!(problems(&format!("{key} = {value}")), Vec::<String>::new(), "{key} = {value}");
            }
            for value in bad {
                assert_eq!(problems(&format!("{key} = {value}")), [format!("limits.{key}")], "{value}");
            }
        }
    }

    #[test]
    fn each_setting_reaches_its_own_bound() {
        let text = "[limits]\nconnection_requests = 1\naddress_requests = 2\nupstream_requests = 3\naddress_streams = 4\n\
                    streams = 5\nbody_buffer_bytes = 6\nbuffers_bytes = 7\nmin_rate = 8\nrate_grace = \"9s\"\n\
                    transfer_time = \"10s\"\nupstream_idle_timeout = \"11s\"\nupstream_idle_connections = 12\nrequests = 13";
        let Flow { bounds, held, pace, keep } = Raw::parse(text).unwrap().limits.flow(&mut Check::default());
        let bounds = [
            bounds.connection_requests,
            bounds.address_requests,
            bounds.requests,
            bounds.address_streams,
            bounds.streams,
            bounds.all_requests,
        ];
        assert_eq!((bounds, held.each, held.all, pace.rate), ([1, 2, 3, 4, 5, 13], 6, 7, 8));
        assert_eq!([pace.grace, pace.time, keep.time].map(|time| time.as_secs()), [9, 10, 11]);
        assert_eq!(keep.connections, 12);
        let keep = Flow::default().keep;
        assert!(keep.time < Duration::from_secs(5), "Node closes after 5 s");
    }
}
