//! Saying and hearing that sessions have ended, by NOTIFY and LISTEN.
//!
//! The channel is named like the schema. A notice is part of the transaction that ends the sessions, so it is sent exactly when they
//! have ended.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use cloakroom_core::store::{EndListener, EndNotice};
use cloakroom_core::token::Handle;
use tokio::runtime;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Error};

use crate::pool::{Messages, Server};
use crate::sql;

/// The first word of a notice; a later version may add others.
const ENDED: &str = "ended";
/// Handles in a notice. A payload must stay below 8000 bytes, and a handle takes 23.
const PER_NOTICE: usize = 300;
/// Between attempts to reach the server: doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The payloads that name all of these sessions.
pub(crate) fn payloads(handles: &[Handle]) -> Vec<String> {
    let payload =
        |part: &[Handle]| part.iter().fold(ENDED.to_owned(), |payload, handle| format!("{payload} {handle}"));
    handles.chunks(PER_NOTICE).map(payload).collect()
}

/// What a payload says. One that cannot be read may have named any session.
fn read(payload: &str) -> Vec<EndNotice> {
    let mut words = payload.split(' ');
    let handles: Result<Vec<Handle>, _> = match words.next() {
        Some(ENDED) => words.map(str::parse).collect(),
        _ => return vec![EndNotice::Missed],
    };
    match handles {
        Ok(handles) => handles.into_iter().map(EndNotice::Ended).collect(),
        Err(_) => vec![EndNotice::Missed],
    }
}

type Listeners = Arc<Mutex<Vec<EndListener>>>;

/// Those who listen, and the task that hears for them.
pub(crate) struct Notices {
    server: Server,
    schema: String,
    timeout: Duration,
    runtime: runtime::Handle,
    listeners: Listeners,
    task: Mutex<Option<AbortHandle>>,
}

impl Notices {
    pub(crate) fn new(server: Server, schema: String, timeout: Duration, runtime: runtime::Handle) -> Self {
        Self { server, schema, timeout, runtime, listeners: Listeners::default(), task: Mutex::new(None) }
    }

    /// Adds a listener; the first one starts the task.
    pub(crate) fn add(&self, listener: EndListener) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.is_none() {
            let hearing =
                hear(self.server.clone(), self.schema.clone(), self.timeout, Arc::clone(&self.listeners));
            *task = Some(self.runtime.spawn(hearing).abort_handle());
        }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

/// Listens until it is aborted, on one connection after another.
async fn hear(server: Server, schema: String, limit: Duration, listeners: Listeners) {
    let (first, last) = PAUSES;
    let mut pause = first;
    loop {
        let lost = match timeout(limit, server.open()).await {
            Ok(Ok((client, messages))) => {
                let listen = listen(&schema);
                let listen = client.batch_execute(&listen);
                let (listening, error) = follow(listen, messages, &schema, &listeners).await;
                if listening {
                    pause = first;
                    // Said at once, for whoever would rather look than wait for the next connection.
                    tell(&listeners, &[EndNotice::Missed]);
                }
                error.map(|error| error.to_string())
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => None,
        };
        let reason = lost.unwrap_or_else(|| "no answer in time".to_owned());
        tracing::warn!(reason, "the channel that tells of ended sessions is down");
        sleep(pause).await;
        pause = (pause * 2).min(last);
    }
}

fn listen(schema: &str) -> String {
    format!("SET search_path = ''; SET idle_session_timeout = 0; LISTEN {}", sql::identifier(schema))
}

/// Passes on what a connection says until it is lost. Answers whether it came to listening, and why it was lost.
async fn follow(
    listen: impl Future<Output = Result<(), Error>>,
    mut messages: Messages,
    schema: &str,
    listeners: &Listeners,
) -> (bool, Option<Error>) {
    let mut listen = pin!(listen);
    let mut listening = false;
    poll_fn(|context| {
        // The answer to the request comes only while the messages are polled, and these have to be polled again once the request
        // was made, so both are, each time.
        loop {
            if !listening {
                match listen.as_mut().poll(context) {
                    Poll::Ready(Ok(())) => {
                        listening = true;
                        // From here on nothing is missed, but there was no hearing before.
                        tell(listeners, &[EndNotice::Missed]);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready((false, Some(error))),
                    Poll::Pending => {}
                }
            }
            match messages(context) {
                Poll::Ready(Some(Ok(AsyncMessage::Notification(notice)))) if notice.channel() == schema => {
                    tell(listeners, &read(notice.payload()));
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready((listening, Some(error))),
                Poll::Ready(None) => return Poll::Ready((listening, None)),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

fn tell(listeners: &Listeners, notices: &[EndNotice]) {
    // Not under the lock: a listener may add another.
    let listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for listener in &listeners {
        for notice in notices {
            listener(*notice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handles(count: usize) -> Vec<Handle> {
        (0..count).map(|n| Handle::from_bytes((n as u128).to_be_bytes())).collect()
    }

    #[test]
    fn what_is_said_is_what_is_heard_in_payloads_that_postgresql_takes() {
        for count in [0, 1, 2, PER_NOTICE, PER_NOTICE + 1, 1000] {
            let payloads = payloads(&handles(count));
            assert!(payloads.iter().all(|payload| payload.len() < 8000), "{count}");
            let heard: Vec<_> = payloads.iter().flat_map(|payload| read(payload)).collect();
            let said: Vec<_> = handles(count).into_iter().map(EndNotice::Ended).collect();
            assert_eq!(heard, said);
        }
    }

    #[test]
    fn what_cannot_be_read_may_have_been_any_end() {
        for payload in
            ["", "hello", "ended x", "ended  AAAAAAAAAAAAAAAAAAAAAA", "began AAAAAAAAAAAAAAAAAAAAAA"]
        {
            assert_eq!(read(payload), [EndNotice::Missed], "{payload}");
        }
    }
}
