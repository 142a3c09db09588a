//! Wrappers around a store: one that delegates, and three kinds of hook for it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, Version};
use cloakroom_core::store::{
    Admission, BySubject, EndListener, Figures, Found, Inserted, Reason, RemovedAll, Replaced, Standing,
    Store, StoreError, Sweep, SweepLimits, SweepReport,
};
use cloakroom_core::token::Handle;

/// A method of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Store::find`].
    Find,
    /// [`Store::insert`].
    Insert,
    /// [`Store::replace`].
    Replace,
    /// [`Store::remove`].
    Remove,
    /// [`Store::touch`].
    Touch,
    /// [`BySubject::list`].
    List,
    /// [`BySubject::standing`].
    Epoch,
    /// [`BySubject::remove_all`].
    RemoveAll,
    /// [`BySubject::remove_everybody`].
    RemoveEverybody,
    /// [`Sweep::sweep`].
    Sweep,
    /// [`Store::probe`].
    Probe,
}

/// One call of a wrapped store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which call of this wrapper it is, counted over all methods from 1.
    pub number: u64,
    /// Which method is called.
    pub operation: Operation,
}

/// What a [`Hooked`] store does around each call of the store inside.
pub trait Hook: Send + Sync + 'static {
    /// Runs before the call reaches the store. An error is the answer, and the store is not called.
    fn before(&self, call: Call) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Runs after the store has answered without an error. An error takes the answer's place: the store has acted, and
    /// its caller does not know.
    fn after(&self, call: Call) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The time of the store's own clock; `None`, which is the default, for a store without one. What the store inside has does not
    /// count: a test moves its own clocks.
    fn time(&self) -> Option<Timestamp> {
        None
    }

    /// Hears of the figures that the store is given.
    fn govern(&self, figures: Figures) {
        let _ = figures;
    }

    /// Whether neither of the two ever waits, so that [`Store::find_at_once`] can be passed on. Where they may, which is the default,
    /// nothing is answered at once.
    fn never_waits(&self) -> bool {
        false
    }
}

/// A store that passes every call on, with a [`Hook`] around it.
///
/// Clones share the store, the hook and the numbering of calls: a test gives one clone away and asks another.
pub struct Hooked<S, H>(Arc<Shared<S, H>>);

struct Shared<S, H> {
    inner: S,
    hook: H,
    calls: AtomicU64,
}

impl<S, H> Hooked<S, H> {
    /// Puts a hook around a store.
    pub fn with(inner: S, hook: H) -> Self {
        Self(Arc::new(Shared { inner, hook, calls: AtomicU64::new(0) }))
    }

    /// The store inside; calls made on it directly pass the hook by.
    pub fn inner(&self) -> &S {
        &self.0.inner
    }

    /// The hook.
    pub fn hook(&self) -> &H {
        &self.0.hook
    }

    /// How many calls were made so far, over all methods. The next one has this number plus 1.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }
}

impl<S, H: Hook> Hooked<S, H> {
    // Takes a closure, so that a store which acts as soon as it is called is not called too early.
    async fn around<T, F>(
        &self,
        operation: Operation,
        start: impl FnOnce() -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let number = self.0.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let call = Call { number, operation };
        self.0.hook.before(call).await?;
        let answer = start().await?;
        self.0.hook.after(call).await?;
        Ok(answer)
    }
}

/// What a future answers that never waits.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

impl<S, H> Clone for Hooked<S, H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: fmt::Debug, H: fmt::Debug> fmt::Debug for Hooked<S, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooked").field("inner", &self.0.inner).field("hook", &self.0.hook).finish()
    }
}

impl<S: Store, H: Hook> Store for Hooked<S, H> {
    async fn find(&self, handle: Handle) -> Result<Found, StoreError> {
        self.around(Operation::Find, || self.inner().find(handle)).await
    }

    // A call like any other, if the store answers; if it does not, its caller goes on to ask `find`.
    fn find_at_once(&self, handle: Handle) -> Option<Result<Found, StoreError>> {
        if !self.hook().never_waits() {
            return None;
        }
        let answer = self.inner().find_at_once(handle)?;
        at_once(self.around(Operation::Find, || std::future::ready(answer)))
    }

    async fn insert(&self, record: Record, admission: Admission) -> Result<Inserted, StoreError> {
        self.around(Operation::Insert, || self.inner().insert(record, admission)).await
    }

    async fn replace(&self, expected: Version, record: Record) -> Result<Replaced, StoreError> {
        self.around(Operation::Replace, || self.inner().replace(expected, record)).await
    }

    async fn remove(
        &self,
        handle: Handle,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreError> {
        self.around(Operation::Remove, || self.inner().remove(handle, reason, now)).await
    }

    async fn touch(&self, handle: Handle, seen: Timestamp) -> Result<(), StoreError> {
        self.around(Operation::Touch, || self.inner().touch(handle, seen)).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.around(Operation::Probe, || self.inner().probe()).await
    }

    // No calls of their own, nor has what the store says of ends.
    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.hook().time())
    }

    fn govern(&self, figures: Figures) {
        self.hook().govern(figures);
        self.inner().govern(figures);
    }

    fn on_end(&self, listener: EndListener) {
        self.inner().on_end(listener);
    }
}

impl<S: BySubject, H: Hook> BySubject for Hooked<S, H> {
    async fn list(&self, subject: &Subject) -> Result<Vec<Record>, StoreError> {
        self.around(Operation::List, || self.inner().list(subject)).await
    }

    async fn standing(&self, subject: &Subject) -> Result<Standing, StoreError> {
        self.around(Operation::Epoch, || self.inner().standing(subject)).await
    }

    async fn remove_all(
        &self,
        subject: &Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<RemovedAll, StoreError> {
        self.around(Operation::RemoveAll, || self.inner().remove_all(subject, keep, reason, now)).await
    }

    async fn remove_everybody(&self, reason: Reason, now: Timestamp) -> Result<u64, StoreError> {
        self.around(Operation::RemoveEverybody, || self.inner().remove_everybody(reason, now)).await
    }
}

impl<S: Sweep, H: Hook> Sweep for Hooked<S, H> {
    async fn sweep(&self, now: Timestamp, limits: SweepLimits) -> Result<SweepReport, StoreError> {
        self.around(Operation::Sweep, || self.inner().sweep(now, limits)).await
    }
}

/// A store that counts its calls.
///
/// ```
/// # use cloakroom_core::{store::Store, token::Handle};
/// # async fn example(my_store: impl Store) -> Result<(), cloakroom_core::store::StoreError> {
/// use cloakroom_testkit::{Counting, Operation};
///
/// let store = Counting::new(my_store);
/// store.find(Handle::from_bytes([0; 16])).await?;
/// assert_eq!(store.take().of(Operation::Find), 1);
/// assert_eq!(store.counts().total(), 0);
/// # Ok(()) }
/// ```
pub type Counting<S> = Hooked<S, Counter>;

/// The hook of [`Counting`].
#[derive(Debug, Default)]
pub struct Counter(Mutex<Counts>);

/// How often each method was called. Calls that failed count too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<Operation, u64>);

impl Counts {
    /// Calls of one method.
    pub fn of(&self, operation: Operation) -> u64 {
        self.0.get(&operation).copied().unwrap_or(0)
    }

    /// Calls of all methods.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Calls that only read: `find`, `list` and `standing`.
    pub fn reads(&self) -> u64 {
        self.of(Operation::Find) + self.of(Operation::List) + self.of(Operation::Epoch)
    }

    /// Calls that may write: all others.
    pub fn writes(&self) -> u64 {
        self.total() - self.reads()
    }
}

impl<S> Counting<S> {
    /// Counts the calls of a store from now on.
    pub fn new(inner: S) -> Self {
        Self::with(inner, Counter::default())
    }

    /// The calls counted since the beginning or the last [`Counting::take`].
    pub fn counts(&self) -> Counts {
        lock(&self.hook().0).clone()
    }

    /// The calls counted so far; counting begins again at zero.
    pub fn take(&self) -> Counts {
        std::mem::take(&mut *lock(&self.hook().0))
    }
}

impl Hook for Counter {
    async fn before(&self, call: Call) -> Result<(), StoreError> {
        *lock(&self.0).0.entry(call.operation).or_insert(0) += 1;
        Ok(())
    }

    async fn after(&self, _: Call) -> Result<(), StoreError> {
        Ok(())
    }

    fn never_waits(&self) -> bool {
        true
    }
}

/// When a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before it reaches the store: nothing has happened.
    Before,
    /// After the store has carried it out: only the answer is lost.
    After,
}

/// A store that fails a chosen call with [`StoreError::unavailable`].
///
/// ```
/// # use cloakroom_core::{store::Store, token::Handle};
/// # async fn example(my_store: impl Store) -> Result<(), cloakroom_core::store::StoreError> {
/// use cloakroom_testkit::{Failing, Moment};
///
/// let store = Failing::new(my_store);
/// store.fail_nth(2, Moment::After);
/// let handle = Handle::from_bytes([0; 16]);
/// assert!(store.find(handle).await.is_ok());
/// assert!(store.find(handle).await.is_err());
/// assert!(store.find(handle).await.is_ok());
/// # Ok(()) }
/// ```
pub type Failing<S> = Hooked<S, Failures>;

/// The hook of [`Failing`].
#[derive(Debug, Default)]
pub struct Failures(Mutex<Option<Failure>>);

#[derive(Clone, Copy, Debug)]
struct Failure {
    first: u64,
    last: u64,
    moment: Moment,
}

impl<S> Failing<S> {
    /// Wraps a store; no call fails until told so.
    pub fn new(inner: S) -> Self {
        Self::with(inner, Failures::default())
    }

    /// Fails the `n`-th of the calls from now on, counted over all methods from 1, and no other. Takes the place
    /// of what was set before.
    pub fn fail_nth(&self, n: u64, moment: Moment) {
        let number = self.calls().saturating_add(n);
        self.set(Some(Failure { first: number, last: number, moment }));
    }

    /// Fails every call from now on, until [`Failing::heal`].
    pub fn fail_all(&self, moment: Moment) {
        self.set(Some(Failure { first: 0, last: u64::MAX, moment }));
    }

    /// Lets all calls through again.
    pub fn heal(&self) {
        self.set(None);
    }

    fn set(&self, failure: Option<Failure>) {
        *lock(&self.hook().0) = failure;
    }
}

impl Failures {
    fn check(&self, call: Call, now: Moment) -> Result<(), StoreError> {
        let failure = *lock(&self.0);
        match failure {
            Some(Failure { first, last, moment })
                if moment == now && (first..=last).contains(&call.number) =>
            {
                Err(StoreError::unavailable(format!("call {} was made to fail by the test", call.number)))
            }
            _ => Ok(()),
        }
    }
}

impl Hook for Failures {
    async fn before(&self, call: Call) -> Result<(), StoreError> {
        self.check(call, Moment::Before)
    }

    async fn after(&self, call: Call) -> Result<(), StoreError> {
        self.check(call, Moment::After)
    }

    fn never_waits(&self) -> bool {
        true
    }
}

/// A store whose every call lets other tasks run once before it acts, and once more after if so made.
///
/// A store in memory answers at once, so tests on it never see two requests interleave, and never drop a future that is
/// half done. On this one they can.
pub type Yielding<S> = Hooked<S, Pauses>;

/// The hook of [`Yielding`].
#[derive(Debug)]
pub struct Pauses {
    after: bool,
}

impl<S> Yielding<S> {
    /// Yields once before each call.
    pub fn new(inner: S) -> Self {
        Self::with(inner, Pauses { after: false })
    }

    /// Yields once before each call and once after: a future dropped at the second yield has acted.
    pub fn both(inner: S) -> Self {
        Self::with(inner, Pauses { after: true })
    }
}

impl Hook for Pauses {
    async fn before(&self, _: Call) -> Result<(), StoreError> {
        yield_once().await;
        Ok(())
    }

    async fn after(&self, _: Call) -> Result<(), StoreError> {
        if self.after {
            yield_once().await;
        }
        Ok(())
    }
}

async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

// A test that failed while holding a lock has failed already; the others may go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
