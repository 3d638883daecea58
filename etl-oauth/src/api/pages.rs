use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    fmt,
    hash::{Hash, Hasher},
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::{
    sync::mpsc::{self, Permit},
    task::JoinSet,
};

use super::{ApiError, Paging, Request, Response, paging::Place};

/// The pages of a list, in order: a [`Stream`], or [`Pages::next`] by hand.
///
/// While a page is read the next one is fetched, and no more than that one. After an error there are no further pages.
/// Whoever drops it ends the walk.
#[must_use = "pages are fetched when they are read"]
pub struct Pages {
    pages: mpsc::Receiver<Result<Response, ApiError>>,
    _walk: JoinSet<()>,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pages(..)")
    }
}

impl Stream for Pages {
    type Item = Result<Response, ApiError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pages.poll_recv(context)
    }
}

impl Pages {
    /// The next page; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Response, ApiError>> {
        self.pages.recv().await
    }

    pub(super) fn walk(first: Request, paging: Paging, max_pages: usize) -> Self {
        let (sender, pages) = mpsc::channel(1);
        let mut walk = JoinSet::new();
        walk.spawn(async move {
            let mut walk = Walk { first, paging, max_pages, place: Place::default(), seen: HashSet::new() };
            let mut request = Some(walk.first.clone());
            // A place for the page first: what nobody waits for is not fetched.
            while let Some(this) = request.take()
                && let Ok(place) = sender.reserve().await
            {
                request = walk.fetch(this, place).await;
            }
        });
        Self { pages, _walk: walk }
    }
}

struct Walk {
    first: Request,
    paging: Paging,
    max_pages: usize,
    place: Place,
    /// Hashes of the steps so far.
    seen: HashSet<u64>,
}

impl Walk {
    /// Fetches a page, hands it over, and gives the request for the next.
    async fn fetch(&mut self, request: Request, place: Permit<'_, Result<Response, ApiError>>) -> Option<Request> {
        let page = match request.clone().send().await {
            Ok(page) => page,
            Err(err) => {
                place.send(Err(err));
                return None;
            }
        };
        match self.next(&request, &page) {
            Ok(next) => {
                place.send(Ok(page));
                next
            }
            Err(err) => {
                place.send(Err(err));
                None
            }
        }
    }

    fn next(&mut self, request: &Request, page: &Response) -> Result<Option<Request>, ApiError> {
        let step = self.paging.next(&page.headers, &page.body, &mut self.place);
        let Some(step) = step.map_err(|err| ApiError::malformed(request.path(), &err))? else { return Ok(None) };
        let stop = |why| Err(ApiError::Paging { path: request.path(), why });
        let mut hasher = DefaultHasher::new();
        step.hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            return stop("they run in a circle");
        }
        if self.seen.len() >= self.max_pages {
            return stop("there are too many");
        }
        self.first.after(page, &step).map(Some)
    }
}
