//! An answer on its way.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use tokio::runtime::Handle;

use crate::reply::Reply;

/// The answer to one request, which is worked on where the request was read: most functions answer at once, and a task
/// of its own would cost them more than all the rest. Work that was begun is finished all the same when nobody waits
/// for it any more: then it goes on as a task.
pub(crate) struct Answer<B: Send + 'static>(Option<Pin<Box<Work<B>>>>);

type Work<B> = dyn Future<Output = Response<Reply<B>>> + Send;

impl<B: Send + 'static> Answer<B> {
    pub(crate) fn new(work: impl Future<Output = Response<Reply<B>>> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<B: Send + 'static> Future for Answer<B> {
    type Output = Result<Response<Reply<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let response = ready!(work.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(Ok(response))
    }
}

impl<B: Send + 'static> Drop for Answer<B> {
    fn drop(&mut self) {
        // Without a runtime the process is about to end.
        if let Some(work) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(work);
        }
    }
}
