//! The service: puts a slot beside each request, and concludes it when the response starts.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::commit::{Commit, Outcome, commit};
use crate::layer::Shared;
use crate::slot::{Closing, Slot, SlotHandle};

/// A service with sessions. Made by [`SessionLayer`](crate::SessionLayer).
#[derive(Clone)]
pub struct SessionService<S> {
    pub(crate) inner: S,
    pub(crate) shared: Arc<Shared>,
}

impl<S: std::fmt::Debug> std::fmt::Debug for SessionService<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SessionService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Default,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        self.shared.start_rounds();
        let slot = Slot::new(&self.shared, &request);
        request.extensions_mut().insert(SlotHandle(Arc::clone(&slot)));
        ResponseFuture { phase: Phase::Handler { inner: self.inner.call(request), slot: Some(slot) } }
    }
}

pin_project! {
    /// The response of a [`SessionService`].
    pub struct ResponseFuture<F, B> {
        #[pin]
        phase: Phase<F, B>,
    }
}

pin_project! {
    #[project = PhaseProjection]
    enum Phase<F, B> {
        Handler { #[pin] inner: F, slot: Option<Arc<Slot>> },
        Commit { commit: Pin<Box<dyn Future<Output = Outcome> + Send>>, response: Option<Response<B>> },
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut phase = self.project().phase;
        loop {
            match phase.as_mut().project() {
                PhaseProjection::Handler { inner, slot } => {
                    let mut response = ready!(inner.poll(cx))?;
                    let Some(slot) = slot.take() else { return Poll::Ready(Ok(response)) };
                    let loaded = match slot.close() {
                        Closing::Untouched => return Poll::Ready(Ok(response)),
                        Closing::Failed => {
                            Outcome::failed_load().apply(&mut response);
                            return Poll::Ready(Ok(response));
                        }
                        Closing::Loaded(loaded) => loaded,
                    };
                    let commit = match commit(slot, loaded) {
                        Commit::Done(outcome) => {
                            outcome.apply(&mut response);
                            return Poll::Ready(Ok(response));
                        }
                        Commit::Writing(commit) => commit,
                    };
                    phase.set(Phase::Commit { commit, response: Some(response) });
                }
                PhaseProjection::Commit { commit, response } => {
                    let outcome = ready!(commit.as_mut().poll(cx));
                    let mut response = response.take().unwrap_or_default();
                    outcome.apply(&mut response);
                    return Poll::Ready(Ok(response));
                }
            }
        }
    }
}

impl<F, B> std::fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseFuture")
    }
}
