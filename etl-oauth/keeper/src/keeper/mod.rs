//! The crate's front: a keeper of one provider's accounts, from the first consent to the API.

mod account;
mod authorization;
mod builder;
mod callback;
mod error;

pub use account::Account;
pub use authorization::Authorization;
pub use builder::Builder;
pub use error::{AuthorizeError, BuildError, ExchangeError};

use std::{sync::Arc, time::Duration};

use tokio::task::AbortHandle;

use crate::{
    grant::{self, Authority},
    provider::Provider,
    renewal::{Clock, Keepers, Kept},
    store::{Store, StoreError},
    token::Secret,
};
use authorization::{Pending, Sessions};
use callback::Callback;

/// Keeps the tokens of the accounts that people grant at one provider. Cheap to clone; clones are one keeper.
///
/// ```no_run
/// use token_keeper::{Secrets, Store, StoreOptions, TokenKeeper};
///
/// # async fn f(callback_url: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let secrets = Secrets::new("secrets", "");
/// let mut options = StoreOptions::new("my-program", secrets.clone());
/// options.path = Some("tokens".into());
/// let store = Store::open("file", &options).await?;
/// let keeper = TokenKeeper::builder("dropbox", store)
///     .secrets(secrets)
///     .redirect_uri("https://my.example.com/callback")
///     .build()?;
/// // Once: send the person to `asked.url`, and keep `asked.session` in the browser's session.
/// let asked = keeper.authorize_url("a").await?;
/// keeper.exchange(&asked.session, callback_url).await?;
/// // From then on:
/// let token = keeper.account("a")?.token().await?;
/// # let _ = token.expose();
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct TokenKeeper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    authority: Authority,
    keepers: Arc<Keepers>,
    sessions: Sessions,
    redirect_uri: String,
    clock: Clock,
    tasks: Vec<AbortHandle>,
}

impl Drop for Inner {
    /// What only reads ends here. Renewals and writes under way are tasks of their own, and go on.
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl TokenKeeper {
    /// A keeper of accounts at the built-in provider `name` (`custom` for one that [`Builder::issuer`] or
    /// [`Builder::definition`] describes), whose records live in `store`.
    pub fn builder(name: &str, store: Store) -> Builder {
        Builder::new(name, store)
    }

    /// The provider, as far as it is known: a server that tells its endpoints itself (RFC 8414) is asked in the background.
    #[must_use]
    pub fn provider(&self) -> Arc<Provider> {
        self.0.authority.provider()
    }

    /// The account of that name, whether or not it is authorised.
    ///
    /// # Errors
    /// When that is no name of an account (a–z, 0–9 and `-`), or the store holds one account only.
    pub fn account(&self, name: &str) -> Result<Account, StoreError> {
        let keeper = self.0.keepers.get(name)?;
        Ok(Account::new(keeper, self.0.authority.clone()))
    }

    /// The accounts that the store knows, read anew, in the order of their names.
    pub async fn accounts(&self) -> Vec<Account> {
        let keepers = self.0.keepers.all().await;
        keepers.into_iter().map(|keeper| Account::new(keeper, self.0.authority.clone())).collect()
    }

    /// Begins an authorisation of the account `name` (RFC 6749 §4.1.1, with PKCE, and pushed where the provider takes that,
    /// RFC 9126): where the person goes, and what comes back with the redirect.
    ///
    /// # Errors
    /// [`AuthorizeError`]: the account's name, the client's secrets, or the provider's metadata.
    pub async fn authorize_url(&self, name: &str) -> Result<Authorization, AuthorizeError> {
        self.0.keepers.check(name)?;
        let (authority, now) = (&self.0.authority, self.0.clock.now());
        let provider = authority.ready().await?;
        let client = authority.client(now)?;
        let pending = Pending::begin(name, now)?;
        let (verifier, seed) = (pending.verifier(), pending.seed());
        let url = grant::authorize_url(&provider, &client.id, &self.0.redirect_uri, pending.state(), &verifier)
            .ok_or(AuthorizeError::NoEndpoint)?;
        let url = authority.push(authority.bind(url, &seed)?, true, now).await?;
        Ok(Authorization { url, session: self.0.sessions.seal(&pending)? })
    }

    /// Ends the authorisation that `session` belongs to with the redirect that came back: its URL, or its query alone. The
    /// code becomes tokens, and the tokens are stored. A code is sent once, whatever happens.
    ///
    /// # Errors
    /// [`ExchangeError`]. Where tokens came, they are kept: a store that cannot be written is asked again in the
    /// background, and the tokens are good to use meanwhile.
    pub async fn exchange(&self, session: &Secret, callback: &str) -> Result<Account, ExchangeError> {
        let (authority, sent_at) = (&self.0.authority, self.0.clock.now());
        let pending = self.0.sessions.open(session, sent_at)?;
        let provider = authority.ready().await?;
        let query = callback::query(callback);
        let client = authority.client(sent_at)?;
        if !grant::is_signed(&provider, &client, query) {
            return Err(ExchangeError::Callback("it does not bear the provider's signature"));
        }
        let callback = Callback::read(&provider, query)?;
        callback.check(&provider, pending.state())?;
        let account = self.account(pending.account())?;
        if !account.keeper().use_up(&pending.digest(), pending.ends_at()).await? {
            return Err(ExchangeError::Used);
        }
        let code = grant::Code { code: callback.code()?, state: pending.state() };
        let (verifier, seed) = (pending.verifier(), pending.seed());
        let kept = callback.kept();
        let mut answer = authority.exchange(code, &self.0.redirect_uri, &verifier, &seed, kept, sent_at).await?;
        answer.owner = authority.owner(&answer, sent_at).await?;
        account.is_same_person(answer.owner.as_ref()).await?;
        let grant = account.keeper().grant(answer, sent_at);
        for (name, answer) in grant::also(&provider, account.name(), &grant) {
            self.account(&name)?.keeper().authorise(answer, sent_at).await;
        }
        match account.keeper().take(&grant).await {
            Kept::Stored => Ok(account),
            Kept::InMemory(err) => {
                tracing::error!(account = account.name(), error = %err, "the new tokens live in memory; retrying to store them");
                Ok(account)
            }
        }
    }

    /// Waits for the renewals and writes that are under way, for a program that is about to end. `false` when some are not
    /// done in this time: what a provider has answered to them is then lost.
    pub async fn finish(&self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.0.keepers.finished()).await.is_ok()
    }
}
