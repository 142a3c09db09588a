//! Work that is done even if nobody waits for it any more.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// Does its work where it is waited for; if that is given up, the work goes on in a task of its own.
///
/// A task from the beginning would do as well, but cost every request two changes of task, and often of thread.
#[derive(Debug)]
pub(crate) struct Errand<F>(Option<Pin<Box<F>>>)
where
    F: Future + Send + 'static,
    F::Output: Send;

impl<F> Errand<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    pub(crate) fn new(work: F) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<F> Future for Errand<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    /// `None` if the work has panicked.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let Some(work) = &mut self.0 else { return Poll::Ready(None) };
        // As in a task: who else is on the connection does not suffer for it, and what has panicked is not touched again.
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
        if matches!(polled, Ok(Poll::Pending)) {
            return Poll::Pending;
        }
        let work = self.0.take();
        drop(catch_unwind(AssertUnwindSafe(|| drop(work))));
        match polled {
            Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
            _ => Poll::Ready(None),
        }
    }
}

impl<F> Drop for Errand<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn drop(&mut self) {
        if let Some(work) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            drop(runtime.spawn(work));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_that_is_waited_for_is_done_there() {
        assert_eq!(Errand::new(async { 1 }).await, Some(1));
    }

    #[tokio::test]
    async fn work_goes_on_when_nobody_waits_for_it_any_more() {
        let (go, may_go) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let mut errand = Errand::new(async move {
            let gone = may_go.await;
            done.send(gone).unwrap();
        });
        assert!(Pin::new(&mut errand).poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
        drop(errand);
        go.send(()).unwrap();
        assert_eq!(is_done.await, Ok(Ok(())));
        let (done, is_done) = oneshot::channel();
        drop(Errand::new(async move { done.send(()) }));
        assert_eq!(is_done.await, Ok(()), "not even begun");
    }

    #[tokio::test]
    async fn what_panics_is_told_and_touches_nobody_else() {
        let mut errand = Errand::new(async {
            if std::hint::black_box(true) {
                panic!("on purpose");
            }
            pending::<()>().await;
        });
        assert_eq!((&mut errand).await, None);
        drop(errand);
    }
}
