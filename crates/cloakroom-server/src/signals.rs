//! The signals that an operator sends: stop, stop at once, load again.

use std::future::Future;

use tokio::sync::oneshot;

/// Two ends: one that lets what is under way finish, and one that does not.
///
/// Comes with Ctrl-C (`SIGINT`) or `SIGTERM`: the first signal resolves the first future, the second signal the second
/// one. Both futures must be polled, side by side. Signals are caught from this call on, so that an early one stops the
/// program in order too.
///
/// # Errors
///
/// If the system does not let signals be caught.
pub fn stops() -> std::io::Result<(impl Future<Output = ()>, impl Future<Output = ()>)> {
    let mut signals = Terminations::new()?;
    let (first, stopped) = oneshot::channel::<()>();
    let in_order = async move {
        // The other end lives as long as the future beside this one.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let at_once = async move {
        signals.next().await;
        let _ = first.send(());
        signals.next().await;
    };
    Ok((in_order, at_once))
}

#[cfg(unix)]
struct Terminations {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Terminations {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Terminations;

#[cfg(not(unix))]
impl Terminations {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// `SIGHUP`, which loads again what can be loaded again and never ends the program.
#[derive(Debug)]
pub struct Hangup(#[cfg(unix)] Option<tokio::signal::unix::Signal>);

impl Hangup {
    /// Catches the signal from now on.
    pub fn caught() -> Self {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Self(signal(SignalKind::hangup()).ok())
        }
        #[cfg(not(unix))]
        Self()
    }

    /// Waits for the next one; for ever where there is no such signal.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.0
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}
