//! The recorder: carries calls out and writes down when they began, when they ended, and what was answered.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, Version};
use cloakroom_core::store::{Found, Inserted, Reason, Replaced, StoreError, StoreErrorKind, SweepLimits};
use cloakroom_core::token::Handle;
use cloakroom_testkit::suite::FullStore;

use super::call::{Answer, Call, Capped, Event, History, Life, Seen};

/// Tombstones and epochs stay for ever here, so that what is gone can be told from what never was.
const LIMITS: SweepLimits = SweepLimits {
    batch: 100,
    tombstone_ttl: std::time::Duration::from_secs(100 * 365 * 86_400),
    epoch_ttl: std::time::Duration::from_secs(100 * 365 * 86_400),
};

type Sink = Box<dyn Fn(&str) + Send + Sync>;

/// Boxed, because the futures of wrapped stores are deep.
type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Records calls. Shared by all clients.
#[derive(Default)]
pub struct Recorder {
    log: Mutex<Log>,
    sink: Option<Sink>,
}

#[derive(Default)]
struct Log {
    /// The number of the next beginning or end.
    next: u64,
    events: Vec<Event>,
    errors: Vec<String>,
    corrupt: u64,
}

impl Recorder {
    /// A recorder that goes on where another one stopped, as after a crash of the process that had it.
    pub fn after(history: History) -> Self {
        let last = history.0.iter().map(|event| event.ended.unwrap_or(event.began).max(event.began)).max();
        let next = last.map_or(0, |last| last + 1);
        Self { log: Mutex::new(Log { next, events: history.0, ..Log::default() }), sink: None }
    }

    /// Hands out each event as one line as it happens, twice: when the call begins, and when it was answered. For a
    /// process that is going to be killed; [`Recorder::read`] puts the lines together again.
    #[must_use = "this returns the changed recorder"]
    pub fn to(mut self, sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.sink = Some(Box::new(sink));
        self
    }

    /// Reads what [`Recorder::to`] handed out. A last line that was cut off is left out; of an event that never ended only the
    /// beginning is there.
    ///
    /// # Panics
    ///
    /// If another line than the last cannot be read.
    pub fn read(text: &str) -> History {
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut events: Vec<Event> = Vec::new();
        for line in whole.lines() {
            let event: Event = serde_json::from_str(line).expect("a line of a recorder");
            // Beginnings are unique.
            match events.iter_mut().rev().find(|known| known.began == event.began) {
                Some(known) => *known = event,
                None => events.push(event),
            }
        }
        events.sort_by_key(|event| event.began);
        History(events)
    }

    /// What was recorded so far.
    pub fn history(&self) -> History {
        History(self.lock().events.clone())
    }

    /// Texts of errors, each once, in the order of their first coming.
    pub fn errors(&self) -> Vec<String> {
        self.lock().errors.clone()
    }

    /// How many calls were answered with a damaged record, which no fault excuses.
    pub fn corrupt(&self) -> u64 {
        self.lock().corrupt
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries a call out. `answer` calls the store when it is first polled, which is after the beginning was written down.
    async fn around<T>(
        &self,
        client: u32,
        call: Call,
        answer: Answering<'_, T>,
        short: impl FnOnce(&T) -> Answer,
    ) -> Result<T, StoreError> {
        let place = {
            let mut log = self.lock();
            let began = log.next;
            log.next += 1;
            log.events.push(Event { client, began, ended: None, call, answer: None });
            self.tell(log.events.last());
            log.events.len() - 1
        };
        let answer = answer.await;
        let mut log = self.lock();
        match &answer {
            Ok(answer) => {
                let ended = log.next;
                log.next += 1;
                let event = &mut log.events[place];
                event.ended = Some(ended);
                event.answer = Some(short(answer));
            }
            Err(error) => {
                log.corrupt += u64::from(error.kind() == StoreErrorKind::Corrupt);
                let mut text = error.to_string();
                let mut source = std::error::Error::source(error);
                while let Some(inner) = source {
                    text = format!("{text}: {inner}");
                    source = inner.source();
                }
                if !log.errors.contains(&text) {
                    log.errors.push(text);
                }
            }
        }
        self.tell(log.events.get(place).filter(|event| event.ended.is_some()));
        drop(log);
        answer
    }

    fn tell(&self, event: Option<&Event>) {
        if let (Some(sink), Some(event)) = (&self.sink, event) {
            sink(&serde_json::to_string(event).expect("an event has a JSON form"));
        }
    }

    /// [`find`](cloakroom_core::store::Store::find).
    ///
    /// # Errors
    ///
    /// As the store; the call is recorded as lost.
    pub async fn find(
        &self,
        client: u32,
        store: &impl FullStore,
        handle: Handle,
    ) -> Result<Found, StoreError> {
        let short = |found: &Found| match found {
            Found::Live(record) => Answer::Live(Seen::of(record)),
            Found::Ended(tombstone) => Answer::Ended { reason: tombstone.reason(), at: tombstone.at() },
            Found::Absent => Answer::Absent,
        };
        self.around(client, Call::Find { handle }, Box::pin(async { store.find(handle).await }), short).await
    }

    /// [`insert`](cloakroom_core::store::Store::insert).
    ///
    /// # Errors
    ///
    /// As [`Recorder::find`].
    pub async fn insert(
        &self,
        client: u32,
        store: &impl FullStore,
        record: Record,
        (now, since, cap): (Timestamp, u64, Capped),
    ) -> Result<Inserted, StoreError> {
        let call = Call::Insert {
            handle: record.handle(),
            subject: record.subject().map(ToString::to_string),
            life: Life::of(&record),
            new: Seen::of(&record),
            now,
            since,
            cap,
        };
        let short = |inserted: &Inserted| match inserted {
            Inserted::Inserted { evicted } => Answer::Inserted { evicted: evicted.clone() },
            Inserted::HandleTaken => Answer::HandleTaken,
            Inserted::Superseded => Answer::Superseded,
            Inserted::CapReached => Answer::CapReached,
        };
        let answer = Box::pin(async { store.insert(record, Call::admission(now, since, cap)).await });
        self.around(client, call, answer, short).await
    }

    /// [`replace`](cloakroom_core::store::Store::replace).
    ///
    /// # Errors
    ///
    /// As [`Recorder::find`].
    pub async fn replace(
        &self,
        client: u32,
        store: &impl FullStore,
        expected: Version,
        record: Record,
    ) -> Result<Replaced, StoreError> {
        let call = Call::Replace {
            handle: record.handle(),
            expected: expected.number(),
            life: Life::of(&record),
            new: Seen::of(&record),
        };
        let short = |replaced: &Replaced| match replaced {
            Replaced::Replaced => Answer::Replaced,
            Replaced::Stale => Answer::Stale,
            Replaced::Gone => Answer::Gone,
        };
        let answer = Box::pin(async { store.replace(expected, record).await });
        self.around(client, call, answer, short).await
    }

    /// [`remove`](cloakroom_core::store::Store::remove).
    ///
    /// # Errors
    ///
    /// As [`Recorder::find`].
    pub async fn remove(
        &self,
        client: u32,
        store: &impl FullStore,
        handle: Handle,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreError> {
        let short = |removed: &Option<Record>| Answer::Removed(removed.as_ref().map(Seen::of));
        let call = Call::Remove { handle, reason, now };
        let answer = Box::pin(async { store.remove(handle, reason, now).await });
        self.around(client, call, answer, short).await
    }

    /// [`touch`](cloakroom_core::store::Store::touch).
    ///
    /// # Errors
    ///
    /// As [`Recorder::find`].
    pub async fn touch(
        &self,
        client: u32,
        store: &impl FullStore,
        handle: Handle,
        seen: Timestamp,
    ) -> Result<(), StoreError> {
        let short = |(): &()| Answer::Touched;
        let answer = Box::pin(async { store.touch(handle, seen).await });
        self.around(client, Call::Touch { handle, seen }, answer, short).await
    }

    /// [`list`](cloakroom_core::store::BySubject::list).
    ///
    /// # Errors
    ///
    /// As [`Recorder::find`].
    pub async fn list(
        &self,
        client: u32,
        store: &impl FullStore,
        subject: &Subject,
    ) -> Result<Vec<Record>, StoreError> {
        let short = |list: &Vec<Record>| {
            Answer::Listed(list.iter().map(|record| (record.handle(), Seen::of(record))).collect())
        };
        let call = Call::List { subject: subject.to_string() };
        self.around(client, call, Box::pin(async { store.list(subject).await }), short).await
    }

    /// [`epoch`](cloakroom_core::store::BySubject::epoch), as a number.
    ///
    /// # Errors
    ///
    /// As [`Recorder::find`].
    pub async fn epoch(
        &self,
        client: u32,
        store: &impl FullStore,
        subject: &Subject,
    ) -> Result<u64, StoreError> {
        let call = Call::Epoch { subject: subject.to_string() };
        let epoch = Box::pin(async { store.epoch(subject).await.map(|epoch| epoch.number()) });
        self.around(client, call, epoch, |epoch| Answer::Epoch(*epoch)).await
    }

    /// [`remove_all`](cloakroom_core::store::BySubject::remove_all).
    ///
    /// # Errors
    ///
    /// As [`Recorder::find`].
    pub async fn remove_all(
        &self,
        client: u32,
        store: &impl FullStore,
        subject: &Subject,
        keep: Option<Handle>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let reason = Reason::RevokedAll;
        let call = Call::RemoveAll { subject: subject.to_string(), keep, reason, now };
        let answer = Box::pin(async { store.remove_all(subject, keep, reason, now).await });
        let short = |removed: &cloakroom_core::store::RemovedAll| Answer::RemovedAll {
            ended: removed.ended.clone(),
            epoch: removed.epoch.number(),
        };
        self.around(client, call, answer, short).await.map(drop)
    }

    /// [`sweep`](cloakroom_core::store::Sweep::sweep), with tombstones and epochs kept for ever.
    ///
    /// # Errors
    ///
    /// As [`Recorder::find`].
    pub async fn sweep(&self, client: u32, store: &impl FullStore, now: Timestamp) -> Result<(), StoreError> {
        let short = |report: &cloakroom_core::store::SweepReport| {
            Answer::Swept(report.swept.iter().map(|swept| (swept.handle, swept.reason, swept.at)).collect())
        };
        let answer = Box::pin(async { store.sweep(now, LIMITS).await });
        self.around(client, Call::Sweep { now }, answer, short).await.map(drop)
    }

    /// Looks at everything that the history speaks of: each session, and each subject's list and epoch. At the end of a load, so that
    /// what is there in the end has to be explained too.
    ///
    /// # Panics
    ///
    /// If the store fails: it must be well again by then.
    pub async fn audit(&self, store: &impl FullStore) {
        let history = self.history();
        let (mut handles, mut subjects) = (Vec::new(), Vec::new());
        for event in &history.0 {
            match &event.call {
                Call::Insert { handle, subject, .. } => {
                    handles.push(*handle);
                    subjects.extend(subject.clone());
                }
                Call::Epoch { subject } | Call::RemoveAll { subject, .. } => subjects.push(subject.clone()),
                _ => {}
            }
        }
        handles.sort_unstable();
        handles.dedup();
        subjects.sort();
        subjects.dedup();
        for handle in handles {
            self.find(u32::MAX, store, handle).await.expect("the store answers an audit");
        }
        for subject in subjects {
            let subject = Subject::new(subject).expect("a subject");
            self.list(u32::MAX, store, &subject).await.expect("the store answers an audit");
            self.epoch(u32::MAX, store, &subject).await.expect("the store answers an audit");
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("events", &self.lock().events.len()).finish_non_exhaustive()
    }
}
