//! The operations of the store contract, each as one request.

use std::sync::Arc;
use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, Version};
use cloakroom_core::seal::PepperId;
use cloakroom_core::store::{
    Admission, AtCap, Epoch, Found, Governed, Inserted, PepperClaim, Reason, RemovedAll, Replaced, Standing,
    StoreError, Tombstone,
};
use cloakroom_core::token::Handle;
use redis::{Cmd, Value};

use crate::backend::{Backend, Repeat, Request, What};
use crate::layout::{self, Encoded, exact, millis, slot, slot_of_tag, stamp};
use crate::scripts::{Scripts, Source};
use crate::settings::Settings;

pub(crate) struct Operations {
    settings: Arc<Settings>,
    scripts: Scripts,
    /// What the policy says that the scripts need.
    pub(crate) governed: Governed,
    pub(crate) backend: Backend,
}

impl Operations {
    pub(crate) fn new(settings: Arc<Settings>, backend: Backend) -> Self {
        Self { settings, scripts: Scripts::new(), governed: Governed::default(), backend }
    }

    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    pub(crate) fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    pub(crate) async fn find(&self, handle: Handle) -> Result<Found, StoreError> {
        let value = self.get(handle.tag(), self.settings.keys.session(handle)).await?;
        value.map_or(Ok(Found::Absent), |bytes| layout::read(handle, &bytes))
    }

    pub(crate) async fn standing(&self, subject: &Subject) -> Result<Standing, StoreError> {
        let (tag, names) = (Handle::tag_of(subject), &self.settings.keys);
        let keys = vec![names.epoch(tag, subject), names.everybody(tag)];
        let answer = self.run(&self.scripts.standing, tag, keys, Vec::new(), Repeat::Harmless).await?;
        let mut answer = items(answer)?;
        match (answer.next().as_deref(), answer.next()) {
            (Some(b"standing"), Some(epoch)) => {
                let ago = answer.next().map(|ago| {
                    String::from_utf8(ago).ok().and_then(|ago| ago.parse().ok()).ok_or_else(strange)
                });
                let ended_ago = ago.transpose()?.map(Duration::from_millis);
                Ok(Standing { epoch: read_epoch(&epoch)?, ended_ago })
            }
            (Some(b"corrupt"), _) => Err(StoreError::corrupt("the epoch of the subject cannot be read")),
            _ => Err(strange()),
        }
    }

    pub(crate) async fn insert(
        &self,
        record: &Record,
        admission: &Admission,
    ) -> Result<Inserted, StoreError> {
        let encoded = Encoded::new(record, record.version())?;
        let (handle, tag, names) = (record.handle(), record.handle().tag(), &self.settings.keys);
        let mut keys = vec![names.session(handle)];
        let mut arguments: Vec<Vec<u8>> =
            vec![encoded.before.into(), encoded.seen.into(), encoded.after, handle.as_bytes().into()];
        // A handle without its subject's tag would lie where "end all sessions" does not look. The handles of this project have it.
        let misplaced = record.subject().is_some_and(|subject| Handle::tag_of(subject) != tag);
        arguments.push(decimal(u64::from(misplaced)));
        arguments.extend([self.skew(), self.margin()]);
        if let Some(subject) = record.subject() {
            keys.extend([names.index(tag, subject), names.epoch(tag, subject), names.everybody(tag)]);
            let (max, at_cap) = match admission.cap {
                None => (0, ""),
                // The names of the script's two orders.
                Some(cap) => (cap.max.max(1), at_cap(cap.at_cap)?),
            };
            arguments.extend([
                admission.since.number().to_be_bytes().into(),
                decimal(u64::from_be_bytes(exact(admission.now.as_millis()))),
                decimal(max.into()),
                at_cap.into(),
                names.session_prefix(tag),
                stamp(Reason::Evicted, admission.now).into(),
                names.channel().into_bytes(),
            ]);
        }
        let answer = self.run(&self.scripts.insert, tag, keys, arguments, Repeat::Never).await?;
        let mut answer = items(answer)?;
        match answer.next().as_deref() {
            Some(b"inserted") => {
                Ok(Inserted::Inserted { evicted: layout::read_handles(&answer.next().unwrap_or_default())? })
            }
            Some(b"taken") => Ok(Inserted::HandleTaken),
            Some(b"superseded") => Ok(Inserted::Superseded),
            Some(b"full") => Ok(Inserted::CapReached),
            Some(b"misplaced") => {
                Err(StoreError::corrupt("the handle of the session does not have its subject's tag"))
            }
            Some(b"corrupt") => {
                Err(StoreError::corrupt("a session or the epoch of the subject cannot be read"))
            }
            _ => Err(strange()),
        }
    }

    pub(crate) async fn replace(&self, expected: Version, record: &Record) -> Result<Replaced, StoreError> {
        let encoded = Encoded::new(record, expected.next())?;
        let (handle, tag) = (record.handle(), record.handle().tag());
        let mut keys = vec![self.settings.keys.session(handle)];
        if let Some(subject) = record.subject() {
            keys.push(self.settings.keys.index(tag, subject));
        }
        let arguments = vec![
            expected.number().to_be_bytes().into(),
            encoded.before.into(),
            encoded.seen.into(),
            encoded.after,
            record.subject().map_or("", Subject::as_str).into(),
            self.skew(),
            self.margin(),
        ];
        let answer = self.run(&self.scripts.replace, tag, keys, arguments, Repeat::Never).await?;
        match text(answer)?.as_slice() {
            b"replaced" => Ok(Replaced::Replaced),
            b"stale" => Ok(Replaced::Stale),
            b"gone" => Ok(Replaced::Gone),
            b"subject" => {
                Err(StoreError::corrupt("the record to store and the stored one have different subjects"))
            }
            b"corrupt" => Err(StoreError::corrupt("the stored session cannot be read")),
            _ => Err(strange()),
        }
    }

    pub(crate) async fn touch(&self, handle: Handle, seen: Timestamp) -> Result<(), StoreError> {
        let (tag, names) = (handle.tag(), &self.settings.keys);
        let arguments =
            vec![exact(seen.as_millis()).into(), self.skew(), self.margin(), names.index_prefix(tag)];
        let keys = vec![names.session(handle)];
        let answer = self.run(&self.scripts.touch, tag, keys, arguments, Repeat::Harmless).await?;
        match text(answer)?.as_slice() {
            b"done" => Ok(()),
            b"corrupt" => Err(StoreError::corrupt("the stored session cannot be read")),
            _ => Err(strange()),
        }
    }

    pub(crate) async fn remove(
        &self,
        handle: Handle,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreError> {
        let (tag, names) = (handle.tag(), &self.settings.keys);
        let arguments = vec![
            stamp(reason, now).into(),
            handle.as_bytes().into(),
            self.margin(),
            names.index_prefix(tag),
            names.channel().into_bytes(),
        ];
        let keys = vec![names.session(handle)];
        let answer = self.run(&self.scripts.remove, tag, keys, arguments, Repeat::Never).await?;
        let mut answer = items(answer)?;
        match answer.next().as_deref() {
            Some(b"nothing") => Ok(None),
            Some(b"removed") => match layout::read(handle, &answer.next().unwrap_or_default())? {
                Found::Live(record) => Ok(Some(record)),
                Found::Ended(_) | Found::Absent => Err(strange()),
            },
            Some(b"corrupt") => Err(StoreError::corrupt("the stored session cannot be read")),
            _ => Err(strange()),
        }
    }

    pub(crate) async fn list(&self, subject: &Subject) -> Result<Vec<Record>, StoreError> {
        let (tag, names) = (Handle::tag_of(subject), &self.settings.keys);
        let keys = vec![names.index(tag, subject)];
        let arguments = vec![names.session_prefix(tag)];
        let mut answer = items(self.run(&self.scripts.list, tag, keys, arguments, Repeat::Harmless).await?)?;
        let mut records = Vec::new();
        while let (Some(handle), Some(value)) = (answer.next(), answer.next()) {
            let handle = handle.first_chunk().copied().map(Handle::from_bytes).ok_or_else(strange)?;
            let Found::Live(record) = layout::read(handle, &value)? else { return Err(strange()) };
            if record.subject() != Some(subject) {
                return Err(StoreError::corrupt("a session is indexed under another subject than its own"));
            }
            records.push(record);
        }
        Ok(records)
    }

    pub(crate) async fn remove_all(
        &self,
        subject: &Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<RemovedAll, StoreError> {
        let (tag, names) = (Handle::tag_of(subject), &self.settings.keys);
        let keys = vec![names.index(tag, subject), names.epoch(tag, subject), names.everybody(tag)];
        let arguments = vec![
            stamp(reason, now).into(),
            now.as_millis().to_be_bytes().into(),
            keep.map(|keep| keep.as_bytes().to_vec()).unwrap_or_default(),
            self.margin(),
            decimal(lifetime(self.governed.figures().epoch_ttl).max(1)),
            names.session_prefix(tag),
            names.channel().into_bytes(),
            Tombstone::bare(reason, now).encode(),
        ];
        let answer = self.run(&self.scripts.remove_all, tag, keys, arguments, Repeat::Never).await?;
        let mut answer = items(answer)?;
        match (answer.next().as_deref(), answer.next(), answer.next()) {
            (Some(b"ended"), Some(epoch), Some(ended)) => {
                Ok(RemovedAll { ended: layout::read_handles(&ended)?, epoch: read_epoch(&epoch)? })
            }
            (Some(b"corrupt"), ..) => Err(StoreError::corrupt("the epoch of the subject cannot be read")),
            _ => Err(strange()),
        }
    }

    pub(crate) async fn time(&self) -> Result<Timestamp, StoreError> {
        let what = What::Command(redis::cmd("TIME"));
        let request = Request { slot: None, what, repeat: Repeat::Harmless, durable: false };
        let mut parts = items(self.backend.call(&request).await?)?;
        let mut number = || String::from_utf8(parts.next()?).ok()?.parse::<u64>().ok();
        let (seconds, micros) = number().zip(number()).ok_or_else(strange)?;
        Ok(Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(micros / 1000)))
    }

    /// Writes a key at every primary as a login would, by a script that a full server refuses. It is gone a second later.
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        let source = &self.scripts.probe;
        for (_, tag) in self.backend.primaries().await? {
            let [key, ..] = self.settings.keys.checks(tag);
            let keys = vec![key];
            self.run(source, tag, keys, Vec::new(), Repeat::Never).await?;
        }
        Ok(())
    }

    pub(crate) async fn claim_pepper(
        &self,
        current: PepperId,
        live: &[PepperId],
    ) -> Result<PepperClaim, StoreError> {
        let key = self.settings.keys.peppers();
        let source = &self.scripts.claim;
        let arguments = std::iter::once(&current).chain(live).map(|id| id.as_bytes().to_vec()).collect();
        let what =
            What::Script { script: &source.script, source: source.text, keys: vec![key.clone()], arguments };
        // Without braces the whole name decides on the slot.
        let request = Request { slot: Some(slot(&key)), what, repeat: Repeat::Harmless, durable: true };
        let known = pepper_ids(self.backend.call(&request).await?)?;
        Ok(if known.is_empty() { PepperClaim::Accepted } else { PepperClaim::Foreign { known } })
    }

    pub(crate) async fn peppers(&self) -> Result<Vec<PepperId>, StoreError> {
        let key = self.settings.keys.peppers();
        let what = What::Command(redis::cmd("SMEMBERS").arg(&key).to_owned());
        let request = Request { slot: Some(slot(&key)), what, repeat: Repeat::Harmless, durable: false };
        pepper_ids(self.backend.call(&request).await?)
    }

    /// Reads a key by `GETEX` without options, which is a `GET` that a replica refuses: one that was a primary a moment ago must not
    /// answer with what it held then.
    async fn get(&self, tag: u16, key: Vec<u8>) -> Result<Option<Vec<u8>>, StoreError> {
        let command: Cmd = redis::cmd("GETEX").arg(key).to_owned();
        let what = What::Command(command);
        let request =
            Request { slot: Some(slot_of_tag(tag)), what, repeat: Repeat::Harmless, durable: false };
        match self.backend.call(&request).await? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(Some(bytes)),
            _ => Err(strange()),
        }
    }

    pub(crate) async fn run(
        &self,
        source: &Source,
        tag: u16,
        keys: Vec<Vec<u8>>,
        arguments: Vec<Vec<u8>>,
        repeat: Repeat,
    ) -> Result<Value, StoreError> {
        let what = What::Script { script: &source.script, source: source.text, keys, arguments };
        // A touch that is forgotten costs some idle time; all else that writes must not be forgotten.
        let durable = repeat == Repeat::Never;
        let request = Request { slot: Some(slot_of_tag(tag)), what, repeat, durable };
        Ok(self.backend.call(&request).await?)
    }

    fn skew(&self) -> Vec<u8> {
        decimal(lifetime(self.governed.figures().clock_skew))
    }

    pub(crate) fn margin(&self) -> Vec<u8> {
        // A time of nothing is an error to the server.
        decimal(lifetime(self.governed.figures().tombstone_ttl).max(1))
    }
}

/// A duration in milliseconds, short enough for the server to add it to the time (some 30,000 years).
pub(crate) fn lifetime(duration: Duration) -> u64 {
    millis(duration).min(1_000_000_000_000_000)
}

fn read_epoch(bytes: &[u8]) -> Result<Epoch, StoreError> {
    let number = bytes.first_chunk().copied().map(u64::from_be_bytes);
    number.map(Epoch::from_number).ok_or_else(strange)
}

pub(crate) fn decimal(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn at_cap(at_cap: AtCap) -> Result<&'static str, StoreError> {
    match at_cap {
        AtCap::Deny => Ok("deny"),
        AtCap::EvictOldest => Ok("oldest"),
        AtCap::EvictIdle => Ok("idle"),
        // A newer core with an older store: better no login than one session too many.
        _ => Err(StoreError::unavailable("this version of the store does not know what to do at this cap")),
    }
}

pub(crate) fn strange() -> StoreError {
    StoreError::corrupt("the server's answer is not one of the script's")
}

pub(crate) fn text(value: Value) -> Result<Vec<u8>, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        _ => Err(strange()),
    }
}

fn pepper_ids(value: Value) -> Result<Vec<PepperId>, StoreError> {
    let ids =
        items(value)?.map(|id| Some(PepperId::from_bytes(*id.first_chunk().filter(|_| id.len() == 8)?)));
    ids.collect::<Option<Vec<_>>>().ok_or_else(|| StoreError::corrupt("the name of a pepper cannot be read"))
}

fn items(value: Value) -> Result<impl Iterator<Item = Vec<u8>>, StoreError> {
    match value {
        Value::Array(values) | Value::Set(values) => {
            Ok(values.into_iter().map(text).collect::<Result<Vec<_>, _>>()?.into_iter())
        }
        _ => Err(strange()),
    }
}
