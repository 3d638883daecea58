//! The pages of a list as a stream.

use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    fmt,
    hash::{Hash, Hasher},
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::{sync::mpsc, task::JoinSet};

use super::{ApiError, Bookmark, Paging, Request, Response, paging::Place};

/// The pages of a list, in order: a [`Stream`], or [`Pages::next`] by hand.
///
/// While a page is read the next one is fetched, and no more than that one. After an error there are no further pages.
/// Dropping it ends the walk.
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

    pub(super) fn walk(first: Request, paging: Paging, max_pages: usize, from: Option<Bookmark>) -> Self {
        let (sender, pages) = mpsc::channel(1);
        let mut walk = JoinSet::new();
        walk.spawn(crate::trace_context::carry(async move {
            let place = from.as_ref().map(|from| from.place).unwrap_or_default();
            let mut walk = Walk { first, paging, max_pages, place, seen: HashSet::new() };
            let mut next = Some(from);
            // A place for the page first: no page is fetched that is not awaited.
            while let Some(from) = next.take()
                && let Ok(place) = sender.reserve().await
            {
                let page = walk.fetch(from).await;
                next = page.as_ref().ok().and_then(|page| page.next_page().cloned()).map(Some);
                place.send(page);
            }
        }));
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
    /// Fetches a page, with the bookmark of the next in it.
    async fn fetch(&mut self, from: Option<Bookmark>) -> Result<Response, ApiError> {
        let request = match from {
            Some(from) => self.first.at(&from.step)?,
            None => self.first.clone(),
        };
        let (method, path) = (request.method().clone(), request.path());
        let mut page = request.send().await?;
        let step = self.paging.next(&page.headers, &page.body, &mut self.place);
        let Some(step) = step.map_err(|err| ApiError::malformed(method, path.clone(), &err))? else { return Ok(page) };
        let stop = |why| Err(ApiError::Paging { path, why });
        let mut hasher = DefaultHasher::new();
        step.hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            return stop("they run in a circle");
        }
        if self.seen.len() >= self.max_pages {
            return stop("there are too many");
        }
        page.lead_to(step, self.place);
        Ok(page)
    }
}
