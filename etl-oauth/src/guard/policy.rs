//! Access policy: one function without clock, store or headers, so that a table can cover every case.

use http::Method;

use super::{AuthOutcome, Caller, Progress, Site};

/// The endpoint being requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `/`: runs the job.
    Job,
    /// `/enable`.
    Enable,
    /// `/oauth2/callback`, and what a person confirms after it.
    Callback,
    /// `/status`.
    Status,
    /// `/refresh`, `/revoke`, `/reseal`, `/logout`.
    Operate,
    /// `/login`.
    Login,
    /// `/connect/…` and `/mine`: the owner of an account, by a link.
    Connect,
    /// `/token`: the living token.
    Token,
    /// `/proxy/…`: the provider's API.
    Proxy,
    /// Endpoints without anything confidential: `/done`, `/openapi.json`, unknown paths.
    Public,
}

/// Who may authorise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnableAuth {
    /// The operator.
    Operator,
    /// The first visitor, while there is no token.
    FirstVisit,
}

/// What a request brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// What it amounts to as the operator's.
    pub operator: AuthOutcome,
    /// What it amounts to as a caller's, by the rules of `invoke_auth`.
    pub caller: Caller,
    /// From where it was sent.
    pub site: Site,
    /// It carries the token of a form that this browser was given.
    pub form: bool,
    /// The platform would send the answer to an address of the caller's choice (`X-Callback-Url`).
    pub forwarded: bool,
}

/// How the function stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Who may authorise.
    pub enable_auth: EnableAuth,
    /// The account has a token.
    pub taken: bool,
    /// The account is not `default`, but one that the request names.
    pub named: bool,
    /// `invoke_auth` is not `none`.
    pub closed: bool,
    /// `proxy_allow` opens this door.
    pub opened: bool,
}

/// Let in, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// In, as this.
    Admit(Who),
    /// Not in, and why.
    Refuse(Refusal),
}

/// The role in which a request is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A stranger.
    Anyone,
    /// An authenticated caller.
    Caller,
    /// The operator.
    Operator,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such door here.
    Hidden,
    /// The answer would go to an address of the caller's choice.
    Forwarded,
    /// The operator's credentials are missing or wrong.
    Operator,
    /// A caller's credentials are missing or wrong, for this reason.
    Caller(&'static str),
    /// An authenticated caller without the permission.
    Forbidden,
    /// Too many wrong ones: again after so many seconds.
    Throttled(u64),
    /// A signed call that was made before, and how far that one has got.
    Duplicate(Progress),
    /// A caller's credentials cannot be checked just now.
    Unavailable,
    /// A browser was sent here by another site, with credentials that it sends unasked.
    CrossSite,
    /// The form was not given to this browser.
    Forged,
    /// The account is authorised already.
    Taken,
}

/// Decides whether a request is admitted. Nothing else decides.
///
/// ```
/// use etl_oauth::guard::*;
///
/// let none = Credentials {
///     operator: AuthOutcome::Stranger, caller: Caller::Anonymous, site: Site::Machine, form: false, forwarded: false,
/// };
/// let state = State {
///     enable_auth: EnableAuth::Operator, taken: false, named: false, closed: false, opened: false,
/// };
/// let get = http::Method::GET;
/// assert_eq!(decide(Endpoint::Job, &get, &none, state), Decision::Admit(Who::Anyone));
/// assert_eq!(decide(Endpoint::Enable, &get, &none, state), Decision::Refuse(Refusal::Operator));
/// ```
#[must_use]
pub fn decide(door: Endpoint, method: &Method, credentials: &Credentials, state: State) -> Decision {
    let decided = match door {
        Endpoint::Public => Ok(Who::Anyone),
        Endpoint::Job => job(credentials, state),
        Endpoint::Token | Endpoint::Proxy => data(credentials, state),
        Endpoint::Enable | Endpoint::Callback => enable(method, credentials, state),
        Endpoint::Status | Endpoint::Operate => operate(method, credentials),
        Endpoint::Login => login(method, credentials),
        Endpoint::Connect => connect(method, credentials),
    };
    decided.map_or_else(Decision::Refuse, Decision::Admit)
}

/// The operator runs the job from the status page, too; but not because another site's picture has the job's address.
fn job(credentials: &Credentials, state: State) -> Result<Who, Refusal> {
    match (credentials.operator, credentials.caller, credentials.site) {
        (AuthOutcome::Bearer, _, _) | (AuthOutcome::Basic | AuthOutcome::Session, _, Site::Own | Site::Machine) => {
            Ok(Who::Operator)
        }
        (_, Caller::Proved, _) => Ok(Who::Caller),
        _ if !state.closed => Ok(Who::Anyone),
        (_, caller, _) => Err(not_a_caller(caller, credentials.operator)),
    }
}

/// Tokens and data of the API: only for authenticated callers, and closed by default.
fn data(credentials: &Credentials, state: State) -> Result<Who, Refusal> {
    match credentials.caller {
        _ if !state.opened || !state.closed => Err(Refusal::Hidden),
        _ if credentials.forwarded => Err(Refusal::Forwarded),
        Caller::Proved => Ok(Who::Caller),
        caller => Err(not_a_caller(caller, AuthOutcome::Stranger)),
    }
}

fn not_a_caller(caller: Caller, operator: AuthOutcome) -> Refusal {
    match (caller, operator) {
        (Caller::Throttled(seconds), _) | (_, AuthOutcome::Throttled(seconds)) => Refusal::Throttled(seconds),
        (Caller::Duplicate(progress), _) => Refusal::Duplicate(progress),
        (Caller::Forbidden, _) => Refusal::Forbidden,
        (Caller::Unavailable, _) => Refusal::Unavailable,
        (Caller::Wrong(why), _) => Refusal::Caller(why),
        (Caller::Anonymous | Caller::Proved, _) => Refusal::Caller("no credentials were sent"),
    }
}

fn enable(method: &Method, credentials: &Credentials, state: State) -> Result<Who, Refusal> {
    if credentials.forwarded {
        return Err(Refusal::Forwarded);
    }
    let open = state.enable_auth == EnableAuth::FirstVisit && !state.named;
    match credentials.operator {
        AuthOutcome::Basic | AuthOutcome::Bearer | AuthOutcome::Session => operator(method, credentials),
        _ if open && state.taken => Err(Refusal::Taken),
        _ if open => unforged(method, credentials, false).map(|()| Who::Anyone),
        _ => operator(method, credentials),
    }
}

fn operate(method: &Method, credentials: &Credentials) -> Result<Who, Refusal> {
    match credentials.operator {
        AuthOutcome::Unknown => Err(Refusal::Hidden),
        _ if credentials.forwarded => Err(Refusal::Forwarded),
        _ => operator(method, credentials),
    }
}

fn operator(method: &Method, credentials: &Credentials) -> Result<Who, Refusal> {
    match credentials.operator {
        // No browser sends a bearer unasked.
        AuthOutcome::Bearer => Ok(Who::Operator),
        AuthOutcome::Basic => unforged(method, credentials, true).map(|()| Who::Operator),
        AuthOutcome::Session => unforged(method, credentials, false).map(|()| Who::Operator),
        AuthOutcome::Throttled(seconds) => Err(Refusal::Throttled(seconds)),
        AuthOutcome::Unknown | AuthOutcome::Stranger | AuthOutcome::Wrong => Err(Refusal::Operator),
    }
}

/// The form that takes the operator's secret. A forged one would have to know it, and so needs no token; but no other site
/// is to make a browser guess.
fn login(method: &Method, credentials: &Credentials) -> Result<Who, Refusal> {
    match (credentials.operator, credentials.site) {
        (AuthOutcome::Unknown, _) => Err(Refusal::Hidden),
        _ if credentials.forwarded => Err(Refusal::Forwarded),
        (_, Site::Other) if !method.is_safe() => Err(Refusal::CrossSite),
        _ => Ok(Who::Anyone),
    }
}

/// The owner of an account, who has a link and no other credentials. What is posted comes from a page of ours: a preview
/// robot presses no button, and no other site presses it for a person.
fn connect(method: &Method, credentials: &Credentials) -> Result<Who, Refusal> {
    match credentials.site {
        _ if credentials.forwarded => Err(Refusal::Forwarded),
        _ if method.is_safe() => Ok(Who::Anyone),
        Site::Other => Err(Refusal::CrossSite),
        _ if credentials.form => Ok(Who::Anyone),
        Site::Own | Site::Machine => Err(Refusal::Forged),
    }
}

/// A browser sends a password by itself, from any page: what it posts needs the token of a form. What is no browser was
/// told to send it.
fn unforged(method: &Method, credentials: &Credentials, machines: bool) -> Result<(), Refusal> {
    match credentials.site {
        _ if method.is_safe() => Ok(()),
        Site::Other => Err(Refusal::CrossSite),
        _ if credentials.form => Ok(()),
        Site::Machine if machines => Ok(()),
        Site::Own | Site::Machine => Err(Refusal::Forged),
    }
}

#[cfg(test)]
mod tests;
