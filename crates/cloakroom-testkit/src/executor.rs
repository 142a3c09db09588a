use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future on the calling thread until it is ready, without any async runtime.
///
/// The thread parks while the future waits. A future that needs a runtime of its own (for sockets or timers of tokio)
/// needs that runtime's `block_on` instead.
///
/// ```
/// assert_eq!(cloakroom_testkit::block_on(async { 6 * 7 }), 42);
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            // An unpark that came first makes this return at once; a stray one costs a needless poll.
            Poll::Pending => thread::park(),
        }
    }
}
