//! A gate that the calls of a store wait at, so that a test decides which goes next.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use cloakroom_core::store::StoreError;
use cloakroom_testkit::{Call, Hook, Operation};

/// Where a request waits: before the store is called, or with its answer in hand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The store has not been called yet.
    Before(Operation),
    /// The store has answered.
    After(Operation),
    /// The handler is done with its session, and works on before it answers.
    Work,
}

impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(operation) => write!(f, "{operation:?}"),
            Self::After(operation) => write!(f, "{operation:?} answered"),
            Self::Work => f.write_str("works"),
        }
    }
}

/// Which points a gate keeps shut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grain {
    /// None: calls pass.
    #[default]
    Open,
    /// Before each call. Enough where only the store is shared: what a request does between an answer and its next call is
    /// nobody else's concern, so its place among the others' steps makes no difference.
    Calls,
    /// Before each call and after each answer. Needed where the clock moves in between.
    CallsAndAnswers,
}

/// The hook of one request's store. Clones are the same gate.
///
/// Wakes nobody: whoever lets a call pass polls the request afterwards.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    grain: Grain,
    works: bool,
    at: Option<Point>,
    permitted: bool,
}

impl Gate {
    /// Shuts or opens the gate. A call that waits already goes on waiting.
    pub fn set(&self, grain: Grain) {
        self.lock().grain = grain;
    }

    /// Says whether handlers wait too before they answer. At first they do not.
    pub fn set_works(&self, works: bool) {
        self.lock().works = works;
    }

    /// What a handler calls when it is done with its session.
    pub async fn work(&self) {
        self.pass(Point::Work).await;
    }

    /// Opens the gate after a request that waited at it was dropped.
    pub fn reset(&self) {
        *self.lock() = State::default();
    }

    /// Where a request waits, if it does.
    pub fn at(&self) -> Option<Point> {
        self.lock().at
    }

    /// Lets the next call, or the one that waits, pass one point.
    pub fn permit(&self) {
        self.lock().permitted = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass(&self, point: Point) {
        poll_fn(|_| {
            let state = &mut *self.lock();
            let shut = match point {
                Point::Before(_) => state.grain != Grain::Open,
                Point::After(_) => state.grain == Grain::CallsAndAnswers,
                Point::Work => state.works,
            };
            if shut && !std::mem::take(&mut state.permitted) {
                state.at = Some(point);
                return Poll::Pending;
            }
            state.at = None;
            Poll::Ready(())
        })
        .await;
    }
}

impl Hook for Gate {
    async fn before(&self, call: Call) -> Result<(), StoreError> {
        self.pass(Point::Before(call.operation)).await;
        Ok(())
    }

    async fn after(&self, call: Call) -> Result<(), StoreError> {
        self.pass(Point::After(call.operation)).await;
        Ok(())
    }
}
