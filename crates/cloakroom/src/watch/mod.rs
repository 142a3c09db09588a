//! Waiting for a session's end: for whoever holds a connection open that belongs to it.
//!
//! Three ways lead to an end being heard of. What this process does itself is announced at once ([`announce`]); a shared
//! store may tell of what others do; and every watched session is looked up at intervals ([`round`]), which is what the bound
//! rests on: the other two only speed things up.

mod announce;
mod hub;
mod round;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use cloakroom_core::store::Reason;

use crate::layer::Shared;
use crate::session::Session;
use crate::slot::Tie;

pub(crate) use self::announce::Announcing;
pub(crate) use self::hub::Hub;
use self::hub::Seat;

/// How a session ended, for whoever waited for it: see [`Session::ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionEnd {
    /// It ended for this reason.
    Ended(Reason),
    /// It is over, and the store no longer knows why.
    Gone,
    /// For too long nobody could tell whether it lives: the store does not answer, or the layer is gone. To be treated as an end.
    Unverifiable,
}

impl SessionEnd {
    /// Why it ended, where that is known.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Ended(reason) => Some(reason),
            Self::Gone | Self::Unverifiable => None,
        }
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended(reason) => reason.name(),
            Self::Gone => "gone",
            Self::Unverifiable => "unverifiable",
        })
    }
}

/// Comes to its end when a session does. From [`Session::ended`].
///
/// Watching begins when it is first polled. It may be polled again after it was ready, and says the same again.
#[must_use = "a future does nothing until it is awaited"]
pub struct Ended(State);

enum State {
    /// There is no session that could end.
    Never,
    Unwatched {
        shared: Weak<Shared>,
        tie: Tie,
    },
    Watched(Seat),
    Over(SessionEnd),
}

impl Ended {
    pub(crate) fn of(shared: &Arc<Shared>, tie: Option<Tie>) -> Self {
        Self(match tie {
            Some(tie) => State::Unwatched { shared: Arc::downgrade(shared), tie },
            None => State::Never,
        })
    }
}

impl Future for Ended {
    type Output = SessionEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<SessionEnd> {
        if let State::Unwatched { shared, tie } = &self.0 {
            // Where nobody can watch, nobody can tell.
            let seat = shared.upgrade().and_then(|shared| shared.watch(*tie));
            self.0 = seat.map_or(State::Over(SessionEnd::Unverifiable), State::Watched);
        }
        let end = match &self.0 {
            State::Watched(seat) => std::task::ready!(seat.poll(cx)),
            State::Over(end) => return Poll::Ready(*end),
            State::Never | State::Unwatched { .. } => return Poll::Pending,
        };
        self.0 = State::Over(end);
        Poll::Ready(end)
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ended")
            .field(match &self.0 {
                State::Never => &"never",
                State::Unwatched { .. } | State::Watched(_) => &"waiting",
                State::Over(end) => end,
            })
            .finish()
    }
}

impl Session {
    /// Comes to its end when this session does: logged out in another tab, revoked, evicted, taken over by a thief,
    /// expired. For a WebSocket or an event stream, which would otherwise outlive it (R-062).
    ///
    /// The future can be sent to a task, and works when the response has long begun. It holds neither the session nor the
    /// layer: when the layer is gone, nobody can tell, and it ends with [`SessionEnd::Unverifiable`]. A server that lets
    /// connections outlive its router while it shuts down keeps a clone of the [`SessionLayer`](crate::SessionLayer) for
    /// them. Needs feature `tokio`, and a tokio runtime where it is polled.
    ///
    /// **Bound.** An end that this process carries out is heard of at once, and one that a shared store tells of after one
    /// look-up. Any other one within [`Policy::watch_interval`](crate::Policy::watch_interval), 5 seconds by default, and one
    /// round of look-ups after it; so is an expiry. While the store does not answer, the wait goes on for up to 30 seconds
    /// more, and then ends with [`SessionEnd::Unverifiable`].
    ///
    /// **Which session.** The one that the request has when this is called: after a login in the same request that is the new one.
    /// A rotation does not end it. A login in the same browser does, because it makes another session. Where the request has ended its own
    /// session, the future is ready after one look-up. A visitor without a session has nothing that could end: the future never
    /// is ready. Extract [`Authenticated`](crate::Authenticated) where only users shall have the stream.
    ///
    /// **Cost.** A wait takes some 200 bytes, and no task of its own. A round is one look-up for each session, however many wait
    /// for it, 16 at a time; over 10,000 sessions in a [`MemoryStore`](crate::MemoryStore) it takes some 25 ms of one core.
    ///
    /// **No activity.** Neither the open connection nor the look-ups keep a session alive: whoever only listens for longer
    /// than the idle limit is idle.
    ///
    /// ```
    /// use axum::body::Body;
    /// use axum::http::header;
    /// use axum::response::IntoResponse;
    /// use cloakroom::Authenticated;
    /// use http_body_util::Channel;
    /// use tokio::time::{Duration, interval};
    ///
    /// /// An event stream that says something each second, for as long as the session lives.
    /// async fn events(user: Authenticated) -> impl IntoResponse {
    ///     let mut ended = user.ended();
    ///     let (mut send, body) = Channel::<bytes::Bytes>::new(16);
    ///     tokio::spawn(async move {
    ///         let mut seconds = interval(Duration::from_secs(1));
    ///         loop {
    ///             tokio::select! {
    ///                 _ = &mut ended => return, // drops `send`, and with it the stream ends
    ///                 _ = seconds.tick() => if send.send_data("data: tick\n\n".into()).await.is_err() { return },
    ///             }
    ///         }
    ///     });
    ///     ([(header::CONTENT_TYPE, "text/event-stream")], Body::new(body))
    /// }
    /// # let _: axum::Router = axum::Router::new().route("/events", axum::routing::get(events));
    /// ```
    pub fn ended(&self) -> Ended {
        Ended::of(&self.slot.shared, self.slot.tie())
    }
}
