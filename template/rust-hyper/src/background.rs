//! Work that goes on when its caller is gone.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::runtime::Handle;

/// A future that runs to its end: it is polled where it was made, and becomes a task of its own when it is dropped before
/// it is done. hyper drops the future of a request whose caller has hung up. A task for every request would cost a short
/// call more than all the rest.
pub(crate) struct Uncancelled<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> Uncancelled<T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> Future for Uncancelled<T> {
    type Output = Result<T, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let done = ready!(work.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(Ok(done))
    }
}

impl<T: Send + 'static> Drop for Uncancelled<T> {
    fn drop(&mut self) {
        // Without a runtime the process is about to end.
        if let Some(work) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_that_was_begun_and_dropped_is_finished() {
        let (begin, begun) = oneshot::channel::<()>();
        let (finish, finished) = oneshot::channel();
        let mut work = Uncancelled::new(async move {
            begun.await.unwrap();
            finish.send(()).unwrap();
        });
        assert!(futures_poll(&mut work).await.is_pending());
        drop(work);
        begin.send(()).unwrap();
        finished.await.unwrap();
    }

    async fn futures_poll<T: Send + 'static>(work: &mut Uncancelled<T>) -> Poll<()> {
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *work).poll(cx).map(drop))).await
    }
}
