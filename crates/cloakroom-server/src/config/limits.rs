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
#[serde(default, deny_unknown_fields)]
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
    pub connections: Option<usize>,
    pub connections_per_address: Option<usize>,
    pub tls_timeout: Option<String>,
    pub head_timeout: Option<String>,
    pub idle_timeout: Option<String>,
    pub ping_interval: Option<String>,
    pub http2_streams: Option<u32>,
    pub stream_buffer: Option<usize>,
    pub head_fields: Option<usize>,
    pub head_bytes: Option<usize>,
    pub target_bytes: Option<usize>,
    pub connection_requests: Option<usize>,
    pub address_requests: Option<usize>,
    pub requests: Option<usize>,
    pub upstream_requests: Option<usize>,
    pub address_streams: Option<usize>,
    pub streams: Option<usize>,
    pub body_buffer_bytes: Option<usize>,
    pub buffers_bytes: Option<usize>,
    pub min_rate: Option<u64>,
    pub rate_grace: Option<String>,
    pub transfer_time: Option<String>,
    pub upstream_idle_timeout: Option<String>,
    pub upstream_idle_connections: Option<usize>,
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
    /// Connections of clients in all. Default 4,096, 1 to 1,000,000; fewer where the limit of open files is low.
    pub connections: usize,
    /// Connections from one address, or one /64 of IPv6, that is not a trusted proxy. Default 512.
    pub connections_per_address: usize,
    /// How long a TLS handshake may take. Default 15 s, 100 ms to 5 min.
    pub tls_timeout: Duration,
    /// How long a connection may take until the head of its first request. Default 15 s, 100 ms to 5 min.
    pub head_timeout: Duration,
    /// How long a connection may be without a request, half a head included. Default 60 s, 1 s to 1 h.
    pub idle_timeout: Duration,
    /// How often an HTTP/2 client is asked whether it is still there, and how long it has to answer. Default 30 s, 1 s to 1 h.
    pub ping_interval: Duration,
    /// Requests at a time on one HTTP/2 connection. Default 100, 1 to 10,000.
    pub http2_streams: u32,
    /// Bytes of an answer that wait for a client that does not read, for each HTTP/2 stream. Default 32 KiB, 16 KiB to 1 MiB.
    pub stream_buffer: usize,
}

/// The section `[shutdown]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
            timeout: time(check, "shutdown.timeout", self.timeout, secs(30), ms(1)..=DAY),
        }
    }
}

impl RawLimits {
    pub(super) fn check(self, check: &mut Check) -> LimitsConfig {
        if let Some(old) = &self.shutdown_timeout {
            check.problem("limits.shutdown_timeout", old, "the same under its new name, shutdown.timeout");
        }
        let head = Limits::default();
        LimitsConfig {
            head: Limits {
                fields: number(check, "head_fields", self.head_fields, head.fields, 10..=1000),
                field_bytes: number(check, "head_bytes", self.head_bytes, head.field_bytes, 1024..=1_048_576),
                target_bytes: number(
                    check,
                    "target_bytes",
                    self.target_bytes,
                    head.target_bytes,
                    256..=65_535,
                ),
            },
            connections: number(check, "connections", self.connections, 4096, 1..=1_000_000),
            connections_per_address: number(
                check,
                "connections_per_address",
                self.connections_per_address,
                512,
                1..=1_000_000,
            ),
            tls_timeout: time(check, "limits.tls_timeout", self.tls_timeout, secs(15), ms(100)..=secs(300)),
            head_timeout: time(
                check,
                "limits.head_timeout",
                self.head_timeout,
                secs(15),
                ms(100)..=secs(300),
            ),
            idle_timeout: time(
                check,
                "limits.idle_timeout",
                self.idle_timeout,
                secs(60),
                secs(1)..=secs(3600),
            ),
            ping_interval: time(
                check,
                "limits.ping_interval",
                self.ping_interval,
                secs(30),
                secs(1)..=secs(3600),
            ),
            http2_streams: number(check, "http2_streams", self.http2_streams, 100, 1..=10_000),
            stream_buffer: number(check, "stream_buffer", self.stream_buffer, 32 << 10, 16 << 10..=1 << 20),
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
        check.problems.iter().map(|problem| problem.key.clone()).collect()
    }

    #[test]
    fn a_setting_that_was_renamed_is_refused_by_its_new_name() {
        let mut check = Check::default();
        let _ = Raw::parse("[limits]\nshutdown_timeout = \"9s\"").unwrap().limits.check(&mut check);
        let said: Vec<String> = check.problems.iter().map(ToString::to_string).collect();
        assert!(said.len() == 1 && said[0].contains("shutdown.timeout"), "{said:?}");
    }

    #[test]
    fn a_bound_outside_its_range_is_refused_by_its_key_and_its_neighbours_are_not() {
        for (key, good, bad) in [
            ("data_bytes", ["1", "1000000"], ["0", "1000001"]),
            ("form_bytes", ["1024", "1048576"], ["1023", "1048577"]),
            ("housekeeping_timeout", ["\"1ms\"", "\"10s\""], ["\"0s\"", "\"11s\""]),
            ("connections", ["1", "1000000"], ["0", "1000001"]),
            ("connections_per_address", ["1", "1000000"], ["0", "1000001"]),
            ("tls_timeout", ["\"100ms\"", "\"5m\""], ["\"0s\"", "\"6m\""]),
            ("head_timeout", ["\"100ms\"", "\"5m\""], ["\"0s\"", "\"6m\""]),
            ("idle_timeout", ["\"1s\"", "\"1h\""], ["\"999ms\"", "\"2h\""]),
            ("ping_interval", ["\"1s\"", "\"1h\""], ["\"0s\"", "\"2h\""]),
            ("http2_streams", ["1", "10000"], ["0", "10001"]),
            ("stream_buffer", ["16384", "1048576"], ["16383", "1048577"]),
            ("head_fields", ["10", "1000"], ["9", "1001"]),
            ("head_bytes", ["1024", "1048576"], ["1023", "1048577"]),
            ("target_bytes", ["256", "65535"], ["255", "65536"]),
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

    /// A number of the page, with its unit: bytes, or milliseconds.
    fn read(text: &str) -> u64 {
        let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
        let unit = match unit.split(',').next().unwrap_or_default() {
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "s" => 1000,
            "h" => 3_600_000,
            "ms" | "bytes/s" | "" => 1,
            other => panic!("{other} is no unit"),
        };
        number.replace(',', "").parse::<u64>().unwrap() * unit
    }

    #[test]
    fn the_operators_page_says_each_default_as_it_is() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operator/limits.md");
        let page = std::fs::read_to_string(page).unwrap();
        let mut check = Check::default();
        let shutdown = RawShutdown::default().check(&mut check);
        let (raw, flow) = (RawLimits::default(), RawLimits::default().flow(&mut check));
        let limits = raw.check(&mut check);
        let (head, bounds) = (limits.head, flow.bounds);
        let ms = |time: Duration| time.as_millis() as usize;
        for (key, value) in [
            ("limits.data_bytes", limits.data_bytes),
            ("limits.form_bytes", limits.form_bytes),
            ("limits.housekeeping_timeout", ms(limits.housekeeping_timeout)),
            ("limits.upstream_timeout", ms(limits.upstream_timeout)),
            ("shutdown.drain", ms(shutdown.drain)),
            ("shutdown.timeout", ms(shutdown.timeout)),
            ("limits.connections", limits.connections),
            ("limits.connections_per_address", limits.connections_per_address),
            ("limits.tls_timeout", ms(limits.tls_timeout)),
            ("limits.head_timeout", ms(limits.head_timeout)),
            ("limits.idle_timeout", ms(limits.idle_timeout)),
            ("limits.ping_interval", ms(limits.ping_interval)),
            ("limits.http2_streams", limits.http2_streams as usize),
            ("limits.stream_buffer", limits.stream_buffer),
            ("limits.head_fields", head.fields),
            ("limits.head_bytes", head.field_bytes),
            ("limits.target_bytes", head.target_bytes),
            ("limits.connection_requests", bounds.connection_requests),
            ("limits.address_requests", bounds.address_requests),
            ("limits.upstream_requests", bounds.requests),
            ("limits.address_streams", bounds.address_streams),
            ("limits.streams", bounds.streams),
            ("limits.body_buffer_bytes", flow.held.each),
            ("limits.buffers_bytes", flow.held.all),
            ("limits.min_rate", flow.pace.rate as usize),
            ("limits.rate_grace", ms(flow.pace.grace)),
            ("limits.transfer_time", ms(flow.pace.time)),
            ("limits.upstream_idle_connections", flow.keep.connections),
            ("limits.upstream_idle_timeout", ms(flow.keep.time)),
        ] {
            let name = format!("`{key}`");
            let mut rows = page.lines().filter_map(|row| row.strip_prefix("| ")?.split_once(" | "));
            let (names, rest) = rows.find(|(names, _)| names.split(", ").any(|one| one == name)).expect(key);
            let at = names.split(", ").position(|one| one == name).unwrap();
            let defaults = rest.split(" | ").next().unwrap();
            // Two settings in a row have two defaults.
            let said = if names.contains(", ") { defaults.split(", ").nth(at).unwrap() } else { defaults };
            assert_eq!(read(said), value as u64, "{key}");
        }
    }
}
