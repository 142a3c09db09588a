//! The load: parallel clients that do everything a store can be asked for, on few sessions.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloakroom_core::client::Client as Browser;
use cloakroom_core::clock::Timestamp;
use cloakroom_core::lifecycle::establish::Draft;
use cloakroom_core::record::{Proof, Record, Subject};
use cloakroom_core::seal::Pepper;
use cloakroom_core::store::{Found, Inserted, Reason, Replaced};
use cloakroom_core::token::Handle;
use cloakroom_testkit::SeededEntropy;
use cloakroom_testkit::suite::FullStore;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Capped, Recorder};
use crate::world::START;

/// What a load is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the clients' choices are drawn from. The same seed makes the same choices, as far as the answers are the same.
    pub seed: u64,
    /// Parallel clients. Default 8.
    pub clients: u32,
    /// Subjects, each with two sessions in use. The first has no cap, the others have one of each kind. Default 4.
    pub subjects: u32,
    /// Anonymous sessions in use. Default 2.
    pub anonymous: u32,
    /// What makes the names of the subjects differ from those of other loads on one store. Default empty.
    pub name: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { seed: 0, clients: 8, subjects: 4, anonymous: 2, name: String::new() }
    }
}

/// How far a load has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that failed: nobody knows what has come of them.
    pub failed: u64,
}

/// A load that runs until it is told to stop.
///
/// Every call goes through the [`Recorder`]. A client whose call failed makes no other writing call until the store has answered it a
/// read again, so an outage leaves one uncertain write a client.
#[derive(Debug)]
pub struct Load {
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    progress: watch::Receiver<Progress>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts the clients on the current tokio runtime.
    pub fn start<S: FullStore + Clone>(store: &S, settings: &Settings) -> Self {
        Self::start_recording(store, settings, Recorder::default())
    }

    /// Starts the clients and goes on with a recorder.
    pub fn start_recording<S: FullStore + Clone>(store: &S, settings: &Settings, recorder: Recorder) -> Self {
        let recorder = Arc::new(recorder);
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, progress) = watch::channel(Progress::default());
        let shared = Arc::new(Shared::new(settings));
        let clients = (0..settings.clients).map(|number| {
            let mut client = Client {
                number,
                random: settings.seed.wrapping_mul(1_000_003).wrapping_add(number.into()),
                store: store.clone(),
                shared: Arc::clone(&shared),
                recorder: Arc::clone(&recorder),
                ended: Vec::new(),
            };
            let (stop, sender) = (Arc::clone(&stop), sender.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let went_well = client.act().await;
                    sender.send_modify(|progress| match went_well {
                        true => progress.answered += 1,
                        false => progress.failed += 1,
                    });
                    if !went_well {
                        client.wait_until_well(&stop).await;
                    }
                }
            })
        });
        let clients = clients.collect();
        Self { recorder, stop, progress, clients }
    }

    /// Runs a load for so many answered calls, audits, and returns its recorder.
    ///
    /// # Panics
    ///
    /// If a client panicked.
    pub async fn run<S: FullStore + Clone>(store: &S, settings: &Settings, calls: u64) -> Arc<Recorder> {
        let load = Self::start(store, settings);
        load.reached(calls).await;
        let recorder = load.stop().await;
        recorder.audit(store).await;
        recorder
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Waits until so many more calls were answered: the way to wait for service to resume.
    ///
    /// # Panics
    ///
    /// If that takes more than five minutes, or all clients have panicked.
    pub async fn reached(&self, more: u64) {
        let goal = self.progress().answered + more;
        let mut progress = self.progress.clone();
        let reached = progress.wait_for(|progress| progress.answered >= goal);
        let in_time = tokio::time::timeout(Duration::from_secs(300), reached).await;
        let reached =
            in_time.unwrap_or_else(|_| panic!("the load stands still: {:?}", self.recorder.errors()));
        drop(reached.expect("the clients live"));
    }

    /// Waits until a call has failed since `before`, which is to be taken before the fault: the way to know that it is felt.
    ///
    /// # Panics
    ///
    /// If that takes more than five minutes, or all clients have panicked.
    pub async fn failed_since(&self, before: Progress) {
        let mut progress = self.progress.clone();
        let failed = progress.wait_for(|progress| progress.failed > before.failed);
        let in_time = tokio::time::timeout(Duration::from_secs(300), failed).await;
        let failed = in_time.unwrap_or_else(|_| panic!("the fault is not felt: {:?}", self.progress()));
        drop(failed.expect("the clients live"));
    }

    /// Stops the clients, each after the call that it is in. A call that hangs is left behind as one whose answer was lost.
    ///
    /// # Panics
    ///
    /// If a client panicked.
    pub async fn stop(self) -> Arc<Recorder> {
        self.stop.store(true, Ordering::SeqCst);
        for mut client in self.clients {
            match tokio::time::timeout(Duration::from_secs(60), &mut client).await {
                Ok(ended) => ended.expect("a client of the load panicked"),
                Err(_) => client.abort(),
            }
        }
        self.recorder
    }
}

/// What the clients share: the sessions in use, time, and what records are made of.
struct Shared {
    slots: Vec<Mutex<Slot>>,
    /// In milliseconds since the beginning; each call is later than those before.
    time: AtomicU64,
    entropy: SeededEntropy,
}

/// A place for a session in use.
struct Slot {
    subject: Option<Subject>,
    cap: Capped,
    /// As somebody saw it last.
    record: Option<Record>,
    /// The epoch that somebody read last.
    epoch: u64,
}

impl Shared {
    fn new(settings: &Settings) -> Self {
        let caps = [Capped::No, Capped::Deny(2), Capped::EvictOldest(2), Capped::EvictIdle(3)];
        let of_subjects = (0..2 * settings.subjects).map(|slot| {
            let subject = slot / 2;
            let name = format!("{}subject {subject}", settings.name);
            let cap = caps[subject as usize % caps.len()];
            (Some(Subject::new(name).expect("a subject")), cap)
        });
        let anonymous = (0..settings.anonymous).map(|_| (None, Capped::No));
        let slots = of_subjects.chain(anonymous);
        let slots = slots.map(|(subject, cap)| Mutex::new(Slot { subject, cap, record: None, epoch: 0 }));
        Self { slots: slots.collect(), time: AtomicU64::new(0), entropy: SeededEntropy::new(settings.seed) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Client<S> {
    number: u32,
    random: u64,
    store: S,
    shared: Arc<Shared>,
    recorder: Arc<Recorder>,
    /// Some sessions that were seen to have ended: they are asked for again, and written to.
    ended: Vec<Record>,
}

/// Limits in the load's own time: sessions that nobody touches expire within it.
const IDLE: Duration = Duration::from_millis(400);
const ABSOLUTE: Duration = Duration::from_millis(3_000);

impl<S: FullStore> Client<S> {
    /// Splitmix64.
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }

    /// The time of this client's clock: they differ by up to 4 ms.
    fn now(&self) -> Timestamp {
        let passed = self.shared.time.fetch_add(1, Ordering::SeqCst);
        START.plus(Duration::from_millis(passed + u64::from(self.number % 3) * 2))
    }

    fn record(&mut self, subject: Option<Subject>, created: Timestamp) -> Record {
        let data = self.draw(u64::MAX).to_be_bytes().to_vec();
        let draft = Draft {
            subject: subject.map(|subject| (subject, Proof::default())),
            created,
            idle: IDLE,
            absolute: ABSOLUTE,
            client: Browser::default(),
            data,
        };
        draft.seal(&Pepper::none(), &self.shared.entropy).expect("a draft can be sealed").0
    }

    /// Makes one call; whether it was answered.
    async fn act(&mut self) -> bool {
        let slot = usize::try_from(self.draw(self.shared.slots.len() as u64)).unwrap_or(0);
        let (subject, cap, record, epoch) = {
            let slot = lock(&self.shared.slots[slot]);
            (slot.subject.clone(), slot.cap, slot.record.clone(), slot.epoch)
        };
        let choice = self.draw(100);
        if choice < 5
            && let Some(dead) = self.some_ended()
        {
            return self.disturb(dead).await;
        }
        match (choice, subject, record) {
            (5..10, Some(subject), _) => self.list(&subject).await,
            (10..16, Some(subject), _) => self.read_epoch(slot, &subject).await,
            (16..18, Some(subject), record) => {
                let keep = record.map(|record| record.handle()).filter(|_| choice == 17);
                let now = self.now();
                let answer = self.recorder.remove_all(self.number, &self.store, &subject, keep, now).await;
                answer.is_ok()
            }
            (18..20, ..) => {
                let now = self.now();
                self.recorder.sweep(self.number, &self.store, now).await.is_ok()
            }
            (20..24, subject, _) | (_, subject, None) => self.log_in(slot, subject, cap, epoch).await,
            (24..29, _, Some(record)) => {
                let reason = [Reason::LoggedOut, Reason::Revoked, Reason::Superseded][self.draw(3) as usize];
                let now = self.now();
                let answer =
                    self.recorder.remove(self.number, &self.store, record.handle(), reason, now).await;
                answer.map(|_| self.bury(slot, record)).is_ok()
            }
            (29..38, _, Some(record)) => {
                let now = self.now();
                self.recorder.touch(self.number, &self.store, record.handle(), now).await.is_ok()
            }
            (38..62, _, Some(record)) => self.write(slot, record).await,
            (_, _, Some(record)) => self.look(slot, record).await,
        }
    }

    fn some_ended(&mut self) -> Option<Record> {
        let count = self.ended.len() as u64;
        let index = (count > 0).then(|| self.draw(count))?;
        self.ended.get(usize::try_from(index).ok()?).cloned()
    }

    /// Whoever knows the session by this record learns that it has ended.
    fn bury(&mut self, slot: usize, record: Record) {
        let mut slot = lock(&self.shared.slots[slot]);
        if slot.record.as_ref().is_some_and(|held| held.handle() == record.handle()) {
            slot.record = None;
        }
        drop(slot);
        if self.ended.len() == 8 {
            self.ended.remove(0);
        }
        self.ended.push(record);
    }

    async fn look(&mut self, slot: usize, record: Record) -> bool {
        match self.recorder.find(self.number, &self.store, record.handle()).await {
            Ok(Found::Live(fresh)) => {
                self.learn(slot, fresh);
                true
            }
            Ok(_) => {
                self.bury(slot, record);
                true
            }
            Err(_) => false,
        }
    }

    fn learn(&self, slot: usize, fresh: Record) {
        let mut slot = lock(&self.shared.slots[slot]);
        if let Some(held) = &mut slot.record
            && held.handle() == fresh.handle()
            && held.version() < fresh.version()
        {
            *held = fresh;
        }
    }

    /// Writes over the version that was seen last, by this client or another, however long ago.
    async fn write(&mut self, slot: usize, record: Record) -> bool {
        let now = self.now();
        let changed = self.changed(&record, now);
        match self.recorder.replace(self.number, &self.store, record.version(), changed.clone()).await {
            // What was stored has at least this version; its activity may be later.
            Ok(Replaced::Replaced) => self.learn(slot, changed.replacing(record.version(), now)),
            Ok(Replaced::Stale) => {}
            Ok(Replaced::Gone) => self.bury(slot, record),
            Err(_) => return false,
        }
        true
    }

    /// Other contents under the same handle, subject and limits.
    fn changed(&mut self, record: &Record, seen: Timestamp) -> Record {
        let fresh = self.record(record.subject().cloned(), record.created());
        let bytes = fresh.encode().expect("a record can be encoded");
        Record::decode(record.handle(), record.version(), seen, &bytes).expect("a record can be decoded")
    }

    async fn log_in(&mut self, slot: usize, subject: Option<Subject>, cap: Capped, epoch: u64) -> bool {
        let now = self.now();
        let record = self.record(subject.clone(), now);
        let answer = self.recorder.insert(self.number, &self.store, record.clone(), (now, epoch, cap)).await;
        match answer {
            Ok(Inserted::Inserted { .. }) => {
                let before = lock(&self.shared.slots[slot]).record.replace(record);
                // It may well live on, known to nobody: the cap or the end of all sessions will find it.
                drop(before);
                true
            }
            Ok(Inserted::Superseded) => match subject {
                Some(subject) => self.read_epoch(slot, &subject).await,
                None => true,
            },
            Ok(_) => true,
            Err(_) => false,
        }
    }

    async fn list(&mut self, subject: &Subject) -> bool {
        self.recorder.list(self.number, &self.store, subject).await.is_ok()
    }

    async fn read_epoch(&mut self, slot: usize, subject: &Subject) -> bool {
        match self.recorder.epoch(self.number, &self.store, subject).await {
            Ok(epoch) => {
                lock(&self.shared.slots[slot]).epoch = epoch;
                true
            }
            Err(_) => false,
        }
    }

    /// Does something to a session that has ended.
    async fn disturb(&mut self, dead: Record) -> bool {
        let (now, handle) = (self.now(), dead.handle());
        let client = self.number;
        match self.draw(5) {
            0 => self.recorder.find(client, &self.store, handle).await.is_ok(),
            1 => self.recorder.touch(client, &self.store, handle, now).await.is_ok(),
            2 => self.recorder.remove(client, &self.store, handle, Reason::Revoked, now).await.is_ok(),
            3 => {
                let answer = self.recorder.insert(client, &self.store, dead, (now, 0, Capped::No));
                answer.await.is_ok()
            }
            _ => {
                let changed = self.changed(&dead, now);
                self.recorder.replace(client, &self.store, dead.version(), changed).await.is_ok()
            }
        }
    }

    /// Asks until the store answers again. The pauses pass no time that a test depends on: they keep a server that is starting
    /// from being asked without end.
    async fn wait_until_well(&mut self, stop: &AtomicBool) {
        let nobody = Handle::from_bytes([0; 16]);
        while !stop.load(Ordering::SeqCst) && self.store.find(nobody).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
