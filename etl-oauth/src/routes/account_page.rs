//! The page of accounts that `/status` is asked for.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;

use super::{
    App,
    connection::Connection,
    respond::{Asked, problem},
};
use crate::pages::{Counts, Search};
use token_keeper::{renewal::Keeper, store::DEFAULT_ACCOUNT, token::State};

/// How many accounts are on a page where the query does not say it, and at most.
const LIMIT: usize = 50;
const MOST: usize = 500;

/// What the query asks for: `cursor`, `limit`, `state`, `q`.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    limit: usize,
    /// Those after this connection and account.
    after: Option<(String, String)>,
    state: Option<State>,
    /// The beginning of the accounts' names.
    prefix: String,
}

/// The accounts of a page, how many there are in each state, and the cursor of the next page.
pub(super) struct Found {
    pub(super) accounts: Vec<(Arc<Connection>, Keeper)>,
    pub(super) counts: Counts,
    pub(super) next: Option<String>,
    /// Whether every account's tokens are where they belong.
    pub(super) is_store_ok: bool,
}

impl Wanted {
    /// Reads a query; a sentence on what is wrong with it.
    fn read(query: &str) -> Result<Self, &'static str> {
        let mut wanted = Self { limit: LIMIT, after: None, state: None, prefix: String::new() };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                // An empty field of the search form is one that is not meant.
                _ if value.is_empty() => {}
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                    wanted.limit = limit.ok_or("limit must be a number from 1 to 500")?;
                }
                "cursor" => {
                    let (connection, account) =
                        value.split_once('/').ok_or("the cursor is none of an earlier answer")?;
                    wanted.after = Some((connection.to_owned(), account.to_owned()));
                }
                "state" => {
                    let state = State::ALL.into_iter().find(|state| state.as_str() == value);
                    wanted.state =
                        Some(state.ok_or("state must be one of disabled, enabled, degraded, needs_authorisation")?);
                }
                "q" => wanted.prefix = value.into_owned(),
                _ => {}
            }
        }
        Ok(wanted)
    }

    /// What the search form shows.
    pub(super) fn search(&self) -> Search {
        Search { prefix: self.prefix.clone(), state: self.state }
    }
}

impl App {
    /// Which accounts a request wants to see.
    pub(super) fn wanted_accounts(&self, asked: &Asked) -> Result<Wanted, Response> {
        Wanted::read(asked.uri.query().unwrap_or_default()).map_err(|why| {
            let words = ("That cannot be read", why, "Follow the links of the page, or leave the parameter out.");
            asked.problem(self, &problem("bad_request", StatusCode::BAD_REQUEST, words))
        })
    }

    /// The accounts of one connection or of all, in the order of connections and names. Revoked ones are not among them;
    /// a connection's `default` is, without a record, where it has no other.
    pub(super) async fn find_accounts(&self, only: Option<&Arc<Connection>>, wanted: &Wanted) -> Found {
        let shown: Vec<_> =
            self.connections.values().filter(|one| only.is_none_or(|only| one.name() == only.name())).collect();
        let (mut all, mut is_store_ok) = (Vec::new(), true);
        let is_there = |keeper: &Keeper| keeper.state() != State::Disabled || keeper.invitation().is_some();
        for connection in &shown {
            let mut keepers = connection.keepers.all().await;
            is_store_ok &= keepers.iter().all(Keeper::is_store_ok);
            if keepers.iter().any(is_there) {
                keepers.retain(is_there);
            } else {
                keepers.retain(|keeper| keeper.account() == DEFAULT_ACCOUNT);
            }
            all.extend(keepers.into_iter().map(|keeper| (Arc::clone(connection), keeper)));
        }
        let counts = Counts::of(all.iter().map(|(_, keeper)| keeper.state()));
        let name = |(connection, keeper): &(Arc<Connection>, Keeper)| {
            (connection.name().to_owned(), keeper.account().to_owned())
        };
        all.retain(|(_, keeper)| {
            wanted.state.is_none_or(|state| keeper.state() == state) && keeper.account().starts_with(&wanted.prefix)
        });
        all.retain(|one| wanted.after.as_ref().is_none_or(|after| name(one) > *after));
        let more = all.len() > wanted.limit;
        all.truncate(wanted.limit);
        let last = all.last().filter(|_| more).map(name);
        let next = last.map(|(connection, account)| format!("{connection}/{account}"));
        Found { accounts: all, counts, next, is_store_ok }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_what_is_wrong_with_it_is_told() {
        let wanted = Wanted::read("limit=7&state=degraded&q=shop&cursor=google%2Fada&connection=google").unwrap();
        assert_eq!((wanted.limit, wanted.state, &*wanted.prefix), (7, Some(State::Degraded), "shop"));
        assert_eq!(wanted.after, Some(("google".into(), "ada".into())));
        let wanted = Wanted::read("limit=&state=&q=&cursor=").unwrap();
        assert_eq!((wanted.limit, wanted.state, wanted.after), (LIMIT, None, None));
        for wrong in ["limit=0", "limit=501", "limit=x", "state=happy", "cursor=x"] {
            assert!(Wanted::read(wrong).is_err(), "{wrong}");
        }
    }
}
