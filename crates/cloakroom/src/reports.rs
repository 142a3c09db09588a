//! What browsers report of the content security policy: read, limited, counted, told.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloakroom_core::client::{Client, Network};
use cloakroom_core::clock::{Clock, Timestamp};
use cloakroom_core::csp::{ApiReport, Blocked, Disposition, LegacyReport, REPORTS_MAX, Violation};
use cloakroom_core::event::{Event, EventKind, Observer};
use http::StatusCode;

/// The longest message that is read, in bytes.
pub const REPORT_BODY_MAX: usize = 64 * 1024;
/// How many different combinations of directive, source and disposition are counted one by one; of further ones the source
/// is [`Blocked::Other`].
pub const REPORT_SOURCES_MAX: usize = 256;
/// How many client networks are limited one by one; further ones share one limit.
const NETWORKS_MAX: usize = 1024;
/// Messages of one network, and of all.
const OF_ONE: Rate = Rate { burst: 20, interval: Duration::from_secs(3) };
const OF_ALL: Rate = Rate { burst: 200, interval: Duration::from_millis(100) };

/// Takes the reports of browsers about the content security policy.
///
/// Knows no transport: ask [`CspReports::admit`] with a request's head, then hand its body to [`CspReports::take`]. In the
/// library, [`SessionLayer::csp_reports`](crate::SessionLayer::csp_reports) gives a service that does both. Clones share one state.
///
/// Each directive and source of a message yields one event, [`EventKind::CspViolation`], with how often the message
/// named it; [`CspReports::counts`] has the sums since the start, for metrics.
///
/// # Security
///
/// Anybody can send reports, with anything in them. So messages are limited in size ([`REPORT_BODY_MAX`]) and rate
/// (20 a minute from one network, 600 in all), different sources in number ([`REPORT_SOURCES_MAX`]), and what is kept holds no query, no
/// fragment and no path of another site. A flood costs honest reports, never memory or the log.
#[derive(Clone)]
pub struct CspReports {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    all: Bucket,
    networks: HashMap<Network, Bucket>,
    /// Clients without an address, and those for whom there is no room.
    rest: Bucket,
    counts: HashMap<Kind, u64>,
}

/// What is counted one by one.
type Kind = (&'static str, Blocked, Disposition);

/// How often a directive refused a source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CspCount {
    /// The directive; `other` for one that is not known.
    pub directive: &'static str,
    /// What it refused.
    pub blocked: Blocked,
    /// Whether it was refused, or only reported.
    pub disposition: Disposition,
    /// How often, since the start.
    pub count: u64,
}

impl CspReports {
    /// Begins with nothing counted.
    pub fn new(clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Self {
        Self { inner: Arc::new(Inner { clock, observer, state: Mutex::default() }) }
    }

    /// Whether a message may be read: ask before reading its body.
    ///
    /// # Errors
    ///
    /// The status to answer with: 415 for a content type that is none of a report, 429 for too many messages, 503 if the
    /// clock cannot be read.
    pub fn admit(&self, content_type: Option<&[u8]>, client: &Client) -> Result<Admitted, StatusCode> {
        let format = content_type.and_then(Format::of).ok_or(StatusCode::UNSUPPORTED_MEDIA_TYPE)?;
        let now = self.inner.clock.now().map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        if self.lock().admits(client.network, now) {
            Ok(Admitted { format, client: *client, now })
        } else {
            Err(StatusCode::TOO_MANY_REQUESTS)
        }
    }

    /// Reads a message, counts what it says and tells the observer. Returns the status to answer with: 204 if it is taken, 413
    /// if it is longer than [`REPORT_BODY_MAX`], 400 if it is no report.
    pub fn take(&self, admitted: Admitted, body: &[u8]) -> StatusCode {
        if body.len() > REPORT_BODY_MAX {
            return StatusCode::PAYLOAD_TOO_LARGE;
        }
        let Some(violations) = admitted.format.read(body) else { return StatusCode::BAD_REQUEST };
        let mut told: Vec<(Violation, u32)> = Vec::new();
        {
            let mut state = self.lock();
            for mut violation in violations {
                violation.blocked =
                    state.count(violation.directive, violation.blocked, violation.disposition);
                match told.iter_mut().find(|(known, _)| kind(known) == kind(&violation)) {
                    Some((_, count)) => *count = count.saturating_add(1),
                    None => told.push((violation, 1)),
                }
            }
        }
        for (violation, count) in told {
            let kind = EventKind::CspViolation { violation, count };
            self.inner.observer.observe(&Event::new(kind, admitted.client, admitted.now));
        }
        StatusCode::NO_CONTENT
    }

    /// The sums since the start, the largest first.
    pub fn counts(&self) -> Vec<CspCount> {
        let mut counts: Vec<_> = self
            .lock()
            .counts
            .iter()
            .map(|((directive, blocked, disposition), &count)| CspCount {
                directive,
                blocked: blocked.clone(),
                disposition: *disposition,
                count,
            })
            .collect();
        counts.sort_by(|a, b| {
            let tie = || (a.directive, a.blocked.to_string()).cmp(&(b.directive, b.blocked.to_string()));
            b.count.cmp(&a.count).then_with(tie)
        });
        counts
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CspReports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CspReports").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

fn kind(violation: &Violation) -> (&'static str, &Blocked, Disposition) {
    (violation.directive, &violation.blocked, violation.disposition)
}

/// A message that may be read.
#[derive(Clone, Copy, Debug)]
#[must_use = "an admitted message counts against the limit: read it"]
pub struct Admitted {
    format: Format,
    client: Client,
    now: Timestamp,
}

/// The two forms of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `report-uri`: one report.
    Legacy,
    /// The Reporting API: several.
    Api,
}

impl Format {
    fn of(content_type: &[u8]) -> Option<Self> {
        let essence = content_type.split(|byte| *byte == b';').next()?.trim_ascii();
        if essence.eq_ignore_ascii_case(b"application/csp-report") {
            return Some(Self::Legacy);
        }
        essence.eq_ignore_ascii_case(b"application/reports+json").then_some(Self::Api)
    }

    /// What a message says; `None` if it is none.
    fn read(self, body: &[u8]) -> Option<Vec<Violation>> {
        match self {
            Self::Legacy => Some(vec![serde_json::from_slice::<LegacyReport>(body).ok()?.violation()]),
            Self::Api => {
                let reports: Vec<ApiReport> = serde_json::from_slice(body).ok()?;
                Some(reports.iter().take(REPORTS_MAX).filter_map(ApiReport::violation).collect())
            }
        }
    }
}

impl State {
    fn admits(&mut self, network: Option<Network>, now: Timestamp) -> bool {
        if let Some(network) = network
            && self.networks.len() >= NETWORKS_MAX
            && !self.networks.contains_key(&network)
        {
            // Whoever has been quiet long enough to have a full bucket again is as good as unknown.
            self.networks.retain(|_, bucket| bucket.full_at > now);
        }
        let room = self.networks.len() < NETWORKS_MAX;
        let (own, rate) = match network {
            Some(network) if room || self.networks.contains_key(&network) => {
                (self.networks.entry(network).or_insert(Bucket::full(now)), OF_ONE)
            }
            _ => (&mut self.rest, OF_ALL),
        };
        // The own one first, so that one network cannot use up what is for all.
        own.take(rate, now) && self.all.take(OF_ALL, now)
    }

    /// Counts, and returns the source that it was counted under.
    fn count(&mut self, directive: &'static str, blocked: Blocked, disposition: Disposition) -> Blocked {
        let mut kind = (directive, blocked, disposition);
        // Room is left for one "other" of each directive and disposition, of which there are few.
        if !self.counts.contains_key(&kind) && self.counts.len() >= REPORT_SOURCES_MAX {
            kind.1 = Blocked::Other;
        }
        let blocked = kind.1.clone();
        let count = self.counts.entry(kind).or_default();
        *count = count.saturating_add(1);
        blocked
    }
}

/// How much may come.
#[derive(Clone, Copy)]
struct Rate {
    burst: u32,
    /// After which one more may come.
    interval: Duration,
}

/// A token bucket, kept as the instant at which it will be full again: one number, no fractions.
#[derive(Default)]
struct Bucket {
    full_at: Timestamp,
}

impl Bucket {
    const fn full(now: Timestamp) -> Self {
        Self { full_at: now }
    }

    fn take(&mut self, rate: Rate, now: Timestamp) -> bool {
        let span = rate.interval.saturating_mul(rate.burst);
        // A clock that was set back must not close the bucket for longer than it takes to fill.
        self.full_at = self.full_at.clamp(now, now.plus(span));
        let next = self.full_at.plus(rate.interval);
        let admitted = next <= now.plus(span);
        if admitted {
            self.full_at = next;
        }
        admitted
    }
}
