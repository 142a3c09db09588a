//! The end of all sessions of everybody.
//!
//! There is an epoch of everybody in the slot of each tag, because a script sees one slot only; a login finds it beside its subject's.
//! All of them are raised before the first session is ended.

use std::sync::Arc;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::store::{Reason, StoreError, Tombstone};
use cloakroom_core::token::Handle;
use redis::Value;
use tokio::task::JoinSet;

use crate::backend::Repeat;
use crate::error::Failure;
use crate::layout::stamp;
use crate::node::Node;
use crate::operations::{Operations, decimal, lifetime, strange, text};

/// How many tags there are.
const TAGS: u16 = 1 << 14;
/// How many scripts are under way at a time.
const AT_A_TIME: usize = 64;
/// How many keys the server looks at before it answers: others wait for as long.
const KEYS_AT_A_TIME: u32 = 1000;

impl Operations {
    /// Raises the epochs of everybody, then ends whatever sessions there are. Returns how many were ended.
    pub(crate) async fn remove_everybody(
        self: &Arc<Self>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.each(0..TAGS, |operations, tag| async move { operations.raise(tag, now).await }).await?;
        let mut ended = 0;
        for (node, _) in self.backend.primaries().await? {
            let mut cursor = b"0".to_vec();
            loop {
                let (next, handles) = self.scan(&node, &cursor).await?;
                let end =
                    |operations: Arc<Self>, handle| async move { operations.end(handle, reason, now).await };
                ended += self.each(handles, end).await?;
                if next == b"0" {
                    break;
                }
                cursor = next;
            }
        }
        Ok(ended)
    }

    async fn raise(&self, tag: u16, now: Timestamp) -> Result<u64, StoreError> {
        let keys = vec![self.settings().keys.everybody(tag)];
        let kept = decimal(lifetime(self.governed.figures().epoch_ttl));
        let arguments = vec![now.as_millis().to_be_bytes().into(), kept];
        match text(self.run(&self.scripts().raise, tag, keys, arguments, Repeat::Never).await?)?.as_slice() {
            b"raised" => Ok(0),
            b"corrupt" => Err(StoreError::corrupt("the epoch of everybody cannot be read")),
            _ => Err(strange()),
        }
    }

    async fn end(&self, handle: Handle, reason: Reason, now: Timestamp) -> Result<u64, StoreError> {
        let (tag, names) = (handle.tag(), &self.settings().keys);
        let arguments = vec![
            stamp(reason, now).into(),
            handle.as_bytes().into(),
            self.margin(),
            names.index_prefix(tag),
            names.channel().into_bytes(),
            Tombstone::bare(reason, now).encode(),
        ];
        let keys = vec![names.session(handle)];
        match text(self.run(&self.scripts().end, tag, keys, arguments, Repeat::Never).await?)?.as_slice() {
            b"ended" => Ok(1),
            b"nothing" => Ok(0),
            _ => Err(strange()),
        }
    }

    /// Some of a server's sessions, and where to go on.
    async fn scan(&self, node: &Node, cursor: &[u8]) -> Result<(Vec<u8>, Vec<Handle>), StoreError> {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(self.settings().keys.all_sessions());
        command.arg("COUNT").arg(KEYS_AT_A_TIME);
        let answer = tokio::time::timeout(self.settings().timeout, node.send(&command)).await;
        let Value::Array(parts) = answer.unwrap_or(Err(Failure::TimedOut))? else { return Err(strange()) };
        let mut parts = parts.into_iter();
        let (Some(next), Some(Value::Array(keys))) = (parts.next(), parts.next()) else {
            return Err(strange());
        };
        let keys = keys.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let handles = keys.iter().filter_map(|key| self.settings().keys.handle_in(key)).collect();
        Ok((text(next)?, handles))
    }

    /// Carries something out for each of many, a bounded number of them at a time, and adds up what it answers.
    async fn each<T, F>(
        self: &Arc<Self>,
        items: impl IntoIterator<Item = T>,
        act: impl Fn(Arc<Self>, T) -> F,
    ) -> Result<u64, StoreError>
    where
        F: Future<Output = Result<u64, StoreError>> + Send + 'static,
    {
        let mut running = JoinSet::new();
        let mut sum = 0;
        for item in items {
            if running.len() >= AT_A_TIME
                && let Some(done) = running.join_next().await
            {
                sum += done.map_err(StoreError::unavailable)??;
            }
            running.spawn(act(Arc::clone(self), item));
        }
        while let Some(done) = running.join_next().await {
            sum += done.map_err(StoreError::unavailable)??;
        }
        Ok(sum)
    }
}
