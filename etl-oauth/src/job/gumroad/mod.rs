//! The weekly report of a seller on [Gumroad](https://gumroad.com/api#sales).
//!
//! What counts: a sale counts in the week and the currency it was made in. One that was refunded, or charged back and not
//! won, counts nowhere; of one refunded in part, the part that was kept. How many did not count is said.

mod report;
mod sale;

pub use report::Report;

use std::collections::HashSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use self::sale::Sale;
use super::{Context, JobError, Outcome};
use crate::format::{LONGEST, cut};
use token_keeper::api::Api;

const SALES: &str = "/v2/sales";

/// Ten sales a page: far more than anybody sells in two weeks, and an end to paging that has none.
const MAX_PAGES: usize = 2000;

/// Makes the report, and once a week sends it to the configured receivers. A report that could not be sent is still the
/// run's result, and due again with the next run.
///
/// # Errors
/// As [`run`].
pub async fn weekly(context: &Context) -> Result<Outcome, JobError> {
    let report = run(&context.api, context.now).await?;
    let outcome = report.outcome()?;
    let message = || report.message(&outcome);
    match context.outlets.weekly(&context.ledger, context.now, message).await {
        Ok(true) => tracing::info!("the weekly report is sent"),
        Ok(false) => {}
        Err(err) => tracing::warn!(error = %err, "the weekly report could not be sent; the next run tries again"),
    }
    Ok(outcome)
}

/// Reads the sales of the last 14 days and sums them up.
///
/// # Errors
/// [`JobError`]: the API's, `success: false` in an answer of status 200, paging that runs in a circle.
pub async fn run(api: &Api, now: Timestamp) -> Result<Report, JobError> {
    // The API knows days, in UTC, and begins with the day it is given; what is older than the moment is left out later.
    let after = report::start(now).to_zoned(TimeZone::UTC).date().to_string();
    let mut walk = Walk::new(report::start(now));
    while let Some(key) = walk.next.take() {
        let mut request = api.get(SALES).query("after", &after);
        if let Key::Page(key) = &key {
            request = request.query("page_key", key);
        }
        walk.take(&request.json().await?)?;
    }
    Ok(Report::of(&walk.sales, walk.unreadable, now))
}

/// Sums up the `sales` of the API's answers, without asking it.
///
/// ```
/// use etl_oauth::job::gumroad;
///
/// let sale = serde_json::json!({"created_at": "2026-11-20T08:00:00Z", "price": 2499, "currency_symbol": "$"});
/// let report = gumroad::sum_up(&[sale], "2026-11-21T12:00:00Z".parse()?);
/// assert!(report.text().contains("This week: 24.99 USD (1 sale)"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sum_up(sales: &[Value], now: Timestamp) -> Report {
    let read: Vec<_> = sales.iter().filter_map(Sale::read).collect();
    Report::of(&read, (sales.len() - read.len()) as u64, now)
}

/// One page, as leniently as it can be read.
#[derive(Debug, Deserialize)]
struct SalesPage {
    success: Option<Value>,
    message: Option<Value>,
    sales: Option<Vec<Value>>,
    next_page_key: Option<Value>,
    next_page_url: Option<Value>,
}

/// Where in the pages the walk is.
#[derive(Debug)]
struct Walk {
    /// The page to ask for next.
    next: Option<Key>,
    /// Sales before this moment are of no use: pages come newest first, so that they end the walk.
    since: Timestamp,
    seen: HashSet<String>,
    sales: Vec<Sale>,
    unreadable: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Key {
    First,
    Page(String),
}

impl Walk {
    fn new(since: Timestamp) -> Self {
        Self { next: Some(Key::First), since, seen: HashSet::new(), sales: Vec::new(), unreadable: 0 }
    }

    fn take(&mut self, answer: &SalesPage) -> Result<(), JobError> {
        if answer.success == Some(Value::Bool(false)) {
            let words = answer.message.as_ref().and_then(Value::as_str).unwrap_or("it gave no reason");
            return Err(JobError::Refused(cut(words, LONGEST)));
        }
        let page = answer.sales.as_deref().unwrap_or_default();
        let read: Vec<_> = page.iter().filter_map(Sale::read).collect();
        self.unreadable += (page.len() - read.len()) as u64;
        let over = !read.is_empty() && read.iter().all(|sale| sale.at < self.since);
        self.sales.extend(read.into_iter().filter(|sale| sale.at >= self.since));

        let Some(key) = answer.page_key()?.filter(|_| !over) else { return Ok(()) };
        let stop = |why| Err(JobError::Paging { resource: SALES, why });
        if !self.seen.insert(key.clone()) {
            return stop("they run in a circle");
        }
        if self.seen.len() >= MAX_PAGES {
            return stop("there are too many");
        }
        self.next = Some(Key::Page(key));
        Ok(())
    }
}

impl SalesPage {
    /// The key of the next page. It is taken out of `next_page_url` where it does not stand alone: an address in an answer
    /// is never followed, so that no answer can send the token elsewhere.
    fn page_key(&self) -> Result<Option<String>, JobError> {
        let key = match &self.next_page_key {
            Some(Value::String(key)) => Some(key.clone()),
            Some(Value::Number(key)) => Some(key.to_string()),
            _ => None,
        };
        if let Some(key) = key.filter(|key| !key.is_empty()) {
            return Ok(Some(key));
        }
        let Some(url) = self.next_page_url.as_ref().and_then(Value::as_str).filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        // The documented form is a path; the base only makes it parse.
        let key = Url::parse("https://api.gumroad.com")
            .and_then(|base| base.join(url))
            .ok()
            .and_then(|url| url.query_pairs().find(|(name, _)| name == "page_key").map(|(_, key)| key.into_owned()));
        match key {
            Some(key) => Ok(Some(key)),
            None => Err(JobError::Paging { resource: SALES, why: "the next one has no page_key" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn take(walk: &mut Walk, answer: Value) -> Result<Option<Key>, JobError> {
        walk.next = None;
        walk.take(&serde_json::from_value(answer).unwrap())?;
        Ok(walk.next.take())
    }

    fn walk() -> Walk {
        Walk::new("2026-11-07T12:00:00Z".parse().unwrap())
    }

    fn sale(at: &str) -> Value {
        json!({"created_at": at, "price": 100, "currency_symbol": "$"})
    }

    #[test]
    fn pages_are_walked_by_key_until_there_is_none() {
        let mut walk = walk();
        let next = take(
            &mut walk,
            json!({"success": true, "sales": [sale("2026-11-20T00:00:00Z")],
                "next_page_key": "20230119081040000000-123456", "next_page_url": "/v2/sales?page_key=other"}),
        );
        assert_eq!(next.unwrap(), Some(Key::Page("20230119081040000000-123456".into())));
        assert_eq!(take(&mut walk, json!({"success": true, "sales": [sale("2026-11-19T00:00:00Z")]})).unwrap(), None);
        assert_eq!(walk.sales.len(), 2);
    }

    #[test]
    fn the_key_is_taken_out_of_an_address_which_is_not_followed() {
        for url in [
            "/v2/sales?page_key=a%2Fb&after=2026-11-07",
            "https://elsewhere.example/v2/sales?page_key=a%2Fb",
            "?page_key=a/b",
        ] {
            let next = take(&mut walk(), json!({"success": true, "sales": [], "next_page_url": url})).unwrap();
            assert_eq!(next, Some(Key::Page("a/b".into())), "{url}");
        }
        let error = take(&mut walk(), json!({"success": true, "next_page_url": "/v2/sales?page=2"})).unwrap_err();
        assert!(error.to_string().contains("no page_key"), "{error}");
    }

    #[test]
    fn a_circle_of_pages_is_an_error() {
        let mut walk = walk();
        for key in ["a", "b"] {
            assert!(take(&mut walk, json!({"sales": [], "next_page_key": key})).unwrap().is_some());
        }
        let error = take(&mut walk, json!({"sales": [], "next_page_key": "a"})).unwrap_err();
        assert!(error.to_string().contains("circle"), "{error}");
    }

    #[test]
    fn paging_without_an_end_is_an_error() {
        let mut walk = walk();
        let error = (0..).find_map(|key| take(&mut walk, json!({"sales": [], "next_page_key": key})).err()).unwrap();
        assert!(error.to_string().contains("too many"), "{error}");
        assert_eq!(walk.seen.len(), MAX_PAGES);
    }

    #[test]
    fn a_page_of_old_sales_ends_the_walk() {
        let mut walk = walk();
        let old = json!({"sales": [sale("2026-11-07T11:00:00Z"), {"created_at": null}], "next_page_key": "more"});
        assert_eq!(take(&mut walk, old).unwrap(), None);
        assert_eq!((walk.sales.len(), walk.unreadable), (0, 1));
    }

    #[test]
    fn a_failure_in_an_answer_of_status_200_is_an_error() {
        let error = take(&mut walk(), json!({"success": false, "message": "The product\nwas not found."})).unwrap_err();
        assert_eq!(error.to_string(), "the API refused: The product was not found.");
        let error = take(&mut walk(), json!({"success": false})).unwrap_err();
        assert_eq!(error.to_string(), "the API refused: it gave no reason");
    }

    #[test]
    fn nulls_where_a_page_should_have_values_are_an_empty_page() {
        let nulls = json!({"success": true, "sales": null, "next_page_key": null, "next_page_url": null});
        assert_eq!(take(&mut walk(), nulls).unwrap(), None);
    }

    #[test]
    fn a_run_can_be_a_task() {
        fn task<T: Send>(_: T) {}
        // Building the future is the proof; nothing is sent.
        fn proof(api: &Api) {
            task(run(api, Timestamp::UNIX_EPOCH));
        }
        let _ = proof;
    }
}
