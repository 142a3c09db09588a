//! Where events go unless told otherwise: to `tracing`.

use cloakroom_core::event::{Event, EventKind, Observer, Severity};

/// Writes each event as one `tracing` event with the target `cloakroom`: error, warn or info by its severity.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingObserver;

impl Observer for TracingObserver {
    fn observe(&self, event: &Event) {
        let reported = match &event.kind {
            EventKind::CspViolation { violation, count } => Some((violation, *count)),
            _ => None,
        };
        let kind = match &event.kind {
            EventKind::StoreFailed(kind) => Some(kind),
            _ => None,
        };
        let count = match &event.kind {
            EventKind::EverybodyEnded(sessions) => Some(*sessions),
            _ => reported.map(|(_, count)| count.into()),
        };
        // Fields, not text: whatever writes them out escapes control characters.
        macro_rules! write_event {
            ($level:ident) => {
                tracing::$level!(
                    target: "cloakroom",
                    event = event.kind.name(),
                    session = event.handle.map(tracing::field::display),
                    subject = event.subject.as_ref().map(tracing::field::debug),
                    reason = event.kind.reason().map(|reason| reason.name()),
                    kind = kind.map(tracing::field::debug),
                    cause = event.cause.as_deref(),
                    directive = reported.map(|(violation, _)| violation.directive),
                    blocked = reported.map(|(violation, _)| tracing::field::display(&violation.blocked)),
                    page = reported.and_then(|(violation, _)| violation.path.as_deref()),
                    count,
                    client = %event.client,
                    network = event.client.network.map(tracing::field::display),
                    at_ms = event.at.as_millis(),
                )
            };
        }
        match event.kind.severity() {
            Severity::Info => write_event!(info),
            Severity::Warning => write_event!(warn),
            _ => write_event!(error),
        }
    }
}
