//! Hears of sessions that end, in this process or another.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use cloakroom_core::store::{EndListener, EndNotice};
use redis::{PushInfo, PushKind, Value};
use tokio::runtime::Handle as Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::layout;
use crate::operations::Operations;

/// How often a silent connection is asked whether it is still there, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The listeners of a store, and the task that tells them. It ends when the store is dropped.
pub(crate) struct Notices {
    runtime: Runtime,
    listeners: Arc<Mutex<Vec<EndListener>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Notices {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self { runtime, listeners: Arc::default(), task: Mutex::new(None) }
    }

    pub(crate) fn add(&self, listener: EndListener, operations: &Arc<Operations>) {
        // Whatever ended before is news to this one.
        listener(EndNotice::Missed);
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.is_none() {
            let listeners = Arc::clone(&self.listeners);
            *task = Some(self.runtime.spawn(listen(Arc::downgrade(operations), listeners)));
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

async fn listen(operations: Weak<Operations>, listeners: Arc<Mutex<Vec<EndListener>>>) {
    let tell = |notice| {
        let listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for listener in listeners {
            listener(notice);
        }
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(operations) = operations.upgrade() else { return };
        let channel = operations.settings().keys.channel();
        let answer_in = operations.settings().timeout;
        let subscribed = subscribe(&operations, &channel).await;
        // The task must not keep the store alive.
        drop(operations);
        if let Some((mut connection, mut heard)) = subscribed {
            pause = FIRST_PAUSE;
            // Now the channel is open; whatever came before was not heard.
            tell(EndNotice::Missed);
            loop {
                match tokio::time::timeout(PING_EVERY, heard.recv()).await {
                    Ok(Some(push)) => match read(push, &channel) {
                        Heard::Ended(handles) => {
                            handles.into_iter().for_each(|handle| tell(EndNotice::Ended(handle)));
                        }
                        Heard::Nothing => {}
                        Heard::Broken => break,
                        Heard::Unreadable => tell(EndNotice::Missed),
                    },
                    Ok(None) => break,
                    // Silence; or a connection that leads nowhere any more.
                    Err(_) => {
                        let ping = redis::cmd("PING");
                        let answer =
                            tokio::time::timeout(answer_in, connection.send_packed_command(&ping)).await;
                        if !matches!(answer, Ok(Ok(_))) {
                            break;
                        }
                    }
                }
            }
            tell(EndNotice::Missed);
            tracing::warn!(
                channel,
                "the channel on which ended sessions are announced is down; trying to open it again"
            );
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

type Subscribed = (redis::aio::MultiplexedConnection, mpsc::UnboundedReceiver<PushInfo>);

async fn subscribe(operations: &Operations, channel: &str) -> Option<Subscribed> {
    let connecting = async {
        let node = operations.backend.to_listen_at().ok()?;
        let (mut connection, heard) = node.listen().await.ok()?;
        connection.subscribe(channel).await.ok()?;
        Some((connection, heard))
    };
    tokio::time::timeout(operations.settings().timeout, connecting).await.ok().flatten()
}

enum Heard {
    Ended(Vec<cloakroom_core::token::Handle>),
    Nothing,
    Unreadable,
    Broken,
}

fn read(push: PushInfo, channel: &str) -> Heard {
    match (push.kind, push.data.as_slice()) {
        (PushKind::Disconnection, _) => Heard::Broken,
        (PushKind::Message, [Value::BulkString(name), Value::BulkString(payload)])
            if name == channel.as_bytes() =>
        {
            layout::read_handles(payload).map_or(Heard::Unreadable, Heard::Ended)
        }
        _ => Heard::Nothing,
    }
}
