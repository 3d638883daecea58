//! Admission: the credentials of a request are gathered, [`guard::decide`](crate::guard::decide) decides, and a refusal
//! becomes an answer. Nothing is made, read or asked for a request before it is admitted.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody as _},
    response::Response,
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::{
    App,
    audit::{Action, STRANGER, actor},
    connection::Named,
    enable::is_taken,
    respond::{self, Asked, Fields, Posted, problem},
};
use crate::{
    guard::{
        AuthOutcome, Call, Caller, Credentials, Csrf, Decision, EnableAuth, Endpoint, Identity, InvokeAuth, Progress,
        Refusal, SignedBody, Site, State, Who, decide, digest_fits,
    },
    pages::Problem,
};
use token_keeper::store::DEFAULT_ACCOUNT;

/// The longest body that is held for an authenticated caller.
const BODY_LIMIT: usize = 1 << 20;
/// The longest body that is held for a stranger.
const STRANGERS_BODY_LIMIT: usize = 16 << 10;

/// An admitted call.
pub(super) struct Admitted {
    /// Its role.
    pub(super) who: Who,
    /// Who the caller is, where it is one.
    pub(super) caller: Identity,
    /// Under which name the call is remembered, where it may come only once.
    pub(super) once: Option<String>,
    /// The body of the call: checked where it is signed, else not read yet.
    pub(super) body: Body,
}

impl Admitted {
    /// The actor's name in the audit.
    pub(super) fn actor(&self) -> String {
        actor(self.who, self.caller.name())
    }
}

impl App {
    /// Admits a request that concerns the whole function, as [`App::admit`].
    pub(super) async fn admit_to_function(&self, door: Endpoint, asked: &Asked, csrf: &str) -> Result<Who, Response> {
        let whole = Named { connection: Arc::clone(self.home()), account: DEFAULT_ACCOUNT.to_owned() };
        self.admit(door, asked, &whole, csrf).await
    }

    /// Admits a form that concerns the whole function, and returns its fields.
    pub(super) async fn admit_form(&self, door: Endpoint, asked: &Asked, form: Posted) -> Result<Fields, Response> {
        let (fields, wrong) = respond::fields(form);
        self.admit_to_function(door, asked, &fields.csrf).await?;
        asked.refuse_body(self, wrong)?;
        Ok(fields)
    }

    /// Admits a request for an account in a role, or returns its answer. `csrf` is the token that its form holds.
    pub(super) async fn admit(
        &self,
        door: Endpoint,
        asked: &Asked,
        named: &Named,
        csrf: &str,
    ) -> Result<Who, Response> {
        match self.judge(door, asked, named, csrf).await? {
            Decision::Admit(who) => Ok(who),
            Decision::Refuse(refusal) => Err(self.refuse(door, asked, refusal)),
        }
    }

    /// The decision over a request for an account; an answer where none can be made.
    pub(super) async fn judge(
        &self,
        door: Endpoint,
        asked: &Asked,
        named: &Named,
        csrf: &str,
    ) -> Result<Decision, Response> {
        if matches!(door, Endpoint::Enable | Endpoint::Callback) {
            named.connection.keepers.check(&named.account).map_err(|err| self.no_account(asked, &err))?;
        }
        let (operator, pause) = self.operator.judge(&asked.headers, self.clock.now());
        let operator = self.or_session(operator, asked).await;
        let is_first = self.config.enable_auth == EnableAuth::FirstVisit && !is_operator(operator);
        let state = State {
            enable_auth: self.config.enable_auth,
            taken: is_first && self.is_taken(door, asked, named).await?,
            named: named.account != DEFAULT_ACCOUNT,
            closed: false,
            opened: false,
        };
        Ok(self.decide(door, asked, csrf, (operator, pause), Caller::Anonymous, state).await)
    }

    /// Whether a request bears the operator's credentials, whatever they let it do: for what is decided before the door.
    pub(super) async fn recognises(&self, asked: &Asked) -> bool {
        let outcome = self.operator.recognise(&asked.headers, self.clock.now());
        is_operator(self.or_session(outcome, asked).await)
    }

    /// Lets a caller in, by the rules of `invoke_auth`. `opened` says whether the configuration opens this door at all. The
    /// body is read beforehand only where its signature is the one proof, and then up to 64 KiB.
    pub(super) async fn admit_caller(
        &self,
        door: Endpoint,
        asked: &Asked,
        body: Body,
        opened: bool,
    ) -> Result<Admitted, Response> {
        // A longer body is refused by its declared length, before any of it is read.
        if opened && self.callers.signs_body() && body.size_hint().lower() > BODY_LIMIT as u64 {
            return Err(self.too_large(asked, BODY_LIMIT));
        }
        let now = self.clock.now();
        let (signed, body) = match self.callers.needs_body(&asked.headers, now).filter(|_| opened) {
            Some(limit) => {
                let bytes = self.whole(asked, body, limit).await?;
                (bytes.clone(), Body::from(bytes))
            }
            None => (Bytes::new(), body),
        };
        let call = Call { method: &asked.method, uri: &asked.uri, headers: &asked.headers, body: &signed };
        let judged = self.callers.judge(call, now).await;
        // A caller's credentials are no guess at the operator's secret.
        let operator = match judged.caller {
            Caller::Proved => AuthOutcome::Stranger,
            _ => self.or_session(self.operator.recognise(&asked.headers, now), asked).await,
        };
        let pause = if is_operator(operator) { Duration::ZERO } else { judged.pause };
        let state = State {
            enable_auth: self.config.enable_auth,
            taken: false,
            named: false,
            closed: self.callers.is_closed(),
            opened,
        };
        match self.decide(door, asked, "", (operator, pause), judged.caller, state).await {
            Decision::Admit(who) => {
                let body = self.signed_body(door, asked, body, judged.body).await;
                let body = body.inspect_err(|_| {
                    if let Some(once) = &judged.once {
                        self.callers.release(once);
                    }
                })?;
                Ok(Admitted { who, caller: judged.identity, once: judged.once, body })
            }
            Decision::Refuse(refusal) => Err(self.refuse(door, asked, refusal)),
        }
    }

    /// The body of a call whose signature is good, checked against it.
    async fn signed_body(
        &self,
        door: Endpoint,
        asked: &Asked,
        body: Body,
        signed: SignedBody,
    ) -> Result<Body, Response> {
        let wrong = match signed {
            SignedBody::Unsigned | SignedBody::Whole => return Ok(body),
            SignedBody::Digest => {
                let bytes = self.whole(asked, body, BODY_LIMIT).await?;
                let headers = asked.headers.clone();
                let hashed = bytes.clone();
                // A megabyte takes milliseconds to hash.
                let fits = tokio::task::spawn_blocking(move || digest_fits(&headers, &hashed)).await;
                if fits.unwrap_or(false) {
                    return Ok(bytes.into());
                }
                "the Content-Digest is not the body's"
            }
            SignedBody::Empty => {
                let bytes = self.whole(asked, body, STRANGERS_BODY_LIMIT).await?;
                if bytes.is_empty() {
                    return Ok(Body::empty());
                }
                "the signature of a call with a body must cover content-digest"
            }
        };
        Err(self.refuse(door, asked, Refusal::Caller(wrong)))
    }

    /// Refuses a caller whose rights do not name the account.
    pub(super) fn check_rights(&self, asked: &Asked, caller: &Identity, named: &Named) -> Result<(), Response> {
        if caller.rights().allow(named.connection.name(), &named.account) {
            return Ok(());
        }
        Err(self.not_permitted(asked))
    }

    /// The body of a call that was let in as `who`, as a job's input: as much as is held for one of its kind.
    pub(super) async fn input(&self, asked: &Asked, who: Who, body: Body) -> Result<Bytes, Response> {
        let limit = if who == Who::Anyone { STRANGERS_BODY_LIMIT } else { BODY_LIMIT };
        self.whole(asked, body, limit).await
    }

    /// A body of at most `limit` bytes.
    async fn whole(&self, asked: &Asked, body: Body, limit: usize) -> Result<Bytes, Response> {
        axum::body::to_bytes(body, limit).await.map_err(|_| self.too_large(asked, limit))
    }

    fn too_large(&self, asked: &Asked, limit: usize) -> Response {
        let message = format!("the body is larger than {} KiB, or broke off", limit >> 10);
        let words = ("That is too much", &*message, "Send less.");
        asked.problem(self, &problem("too_large", StatusCode::PAYLOAD_TOO_LARGE, words))
    }

    async fn decide(
        &self,
        door: Endpoint,
        asked: &Asked,
        csrf: &str,
        (operator, pause): (AuthOutcome, Duration),
        caller: Caller,
        state: State,
    ) -> Decision {
        let credentials = Credentials {
            operator,
            caller,
            site: Site::of(&asked.headers, &self.config.public_url),
            form: Csrf::verify(&self.key, &self.jar, &asked.headers, csrf),
            forwarded: asked.is_forwarded(),
        };
        let decision = decide(door, &asked.method, &credentials, state);
        if !pause.is_zero() {
            tracing::warn!(?door, "wrong credentials");
            tokio::time::sleep(pause).await;
        }
        decision
    }

    /// Whether the account is authorised, by this replica or another one. Read only where it decides.
    async fn is_taken(&self, door: Endpoint, asked: &Asked, named: &Named) -> Result<bool, Response> {
        if named.account != DEFAULT_ACCOUNT || !matches!(door, Endpoint::Enable | Endpoint::Callback) {
            return Ok(false);
        }
        let keeper = self.keeper(asked, named)?;
        keeper.sync().await;
        // A record that cannot be read may hold tokens: the account does not count as free.
        if keeper.current().is_none() && !keeper.is_store_readable() {
            let words = (
                "The function cannot be connected just now",
                "the store cannot be read, so it is unknown whether an account is connected already",
                "Try again later; if it lasts, the operator finds the reason in the log.",
            );
            return Err(asked.problem(self, &problem("store_unavailable", StatusCode::SERVICE_UNAVAILABLE, words)));
        }
        Ok(is_taken(&keeper))
    }

    /// The answer to a request that is not let in.
    pub(super) fn refuse(&self, door: Endpoint, asked: &Asked, refusal: Refusal) -> Response {
        let problem = match refusal {
            Refusal::Hidden => return self.hidden(asked, door),
            Refusal::Operator if asked.is_browser() => return self.to_login(door, asked),
            // Senders of webhooks stop at a 2xx alone.
            Refusal::Duplicate(Progress::Done)
                if door == Endpoint::Job && matches!(self.config.invoke_auth, InvokeAuth::Hmac(_)) =>
            {
                return respond::json(StatusCode::OK, &json!({ "duplicate": true }));
            }
            Refusal::Duplicate(progress) => {
                let next = match progress {
                    Progress::Done => "Send nothing: it is done.",
                    Progress::UnderWay => "Send it again later, should the first one fail.",
                };
                problem(
                    "duplicate",
                    StatusCode::CONFLICT,
                    ("This call was made before", "the same signed call came before", next),
                )
            }
            Refusal::Operator if asked.wants_html() => problem(
                "unauthorised",
                StatusCode::FORBIDDEN,
                (
                    "Only the operator may do this",
                    "this browser is not signed in, or its session has ended",
                    "Sign in, open the page again, and press the button there.",
                ),
            ),
            Refusal::Forwarded => problem(
                "callback_url",
                StatusCode::BAD_REQUEST,
                (
                    "This cannot be asked for asynchronously",
                    "the request bears X-Callback-Url",
                    "Call the function itself, not /async-function.",
                ),
            ),
            Refusal::Operator => problem(
                "unauthorised",
                StatusCode::UNAUTHORIZED,
                (
                    "Only the operator may do this",
                    "the operator's secret is missing or wrong",
                    "Send the value of the secret etl-oauth-operator as bearer, or as Basic password under any user name.",
                ),
            ),
            Refusal::Caller(why) => problem(
                "unauthorised",
                StatusCode::UNAUTHORIZED,
                ("This call is not authenticated", why, "Send the credentials that invoke_auth asks for."),
            ),
            Refusal::Forbidden => problem(
                "forbidden",
                StatusCode::FORBIDDEN,
                (
                    "You may not do this",
                    "these credentials do not permit this function, or this account",
                    "Ask the operator for a permission that names it.",
                ),
            ),
            Refusal::Unavailable => problem(
                "keys_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                (
                    "Callers cannot be checked just now",
                    "the secret or the keys that callers are checked with cannot be read",
                    "Try again; if it lasts, look at the log, and at the secret or the issuer that invoke_auth relies on.",
                ),
            ),
            Refusal::Throttled(_) => problem(
                "too_many_tries",
                StatusCode::TOO_MANY_REQUESTS,
                (
                    "Too many wrong secrets",
                    "so many were wrong that none is looked at for a moment",
                    "Wait as long as Retry-After says, and send the right one.",
                ),
            ),
            Refusal::CrossSite => problem(
                "cross_site",
                StatusCode::FORBIDDEN,
                (
                    "Another site sent you here",
                    "a page of another site posts to this function with your password",
                    "Open this function's own page and press the button there.",
                ),
            ),
            Refusal::Forged => problem(
                "bad_form",
                StatusCode::BAD_REQUEST,
                (
                    "The form is too old",
                    "it was not issued to this browser, or the browser did not send its cookie back",
                    "Open the page again and press the button there.",
                ),
            ),
            Refusal::Taken => {
                let next = if self.operator.exists() {
                    "Only the operator can connect it again: sign in first."
                } else {
                    "To connect it again, mount the secret etl-oauth-operator, or set its token secrets to `empty`."
                };
                let message = "it has a token, and without an operator it cannot be replaced from outside";
                let words = ("This function is already connected", message, next);
                let problem = problem("already_enabled", StatusCode::FORBIDDEN, words);
                if self.operator.exists() { problem.with_link("/login?next=/enable", "Sign in") } else { problem }
            }
        };
        self.note_of_all(STRANGER, Action::Refuse, &problem.error);
        let mut response = asked.problem(self, &linked(problem, door, refusal));
        let headers = response.headers_mut();
        match refusal {
            Refusal::Throttled(seconds) => _ = headers.insert(header::RETRY_AFTER, seconds.into()),
            Refusal::Caller(_) => {
                let challenge = match self.config.invoke_auth {
                    InvokeAuth::Hmac(_) => "Webhook",
                    InvokeAuth::PublicKey(_) => "Signature",
                    _ => "Bearer",
                };
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            // Never Basic: a browser would ask for the secret, keep it, and send it to every function of the gateway.
            Refusal::Operator if !asked.wants_html() => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }

    /// The answer to a caller whose rights do not hold the account that it names.
    pub(super) fn not_permitted(&self, asked: &Asked) -> Response {
        self.refuse(Endpoint::Token, asked, Refusal::Forbidden)
    }

    fn hidden(&self, asked: &Asked, door: Endpoint) -> Response {
        let next = match door {
            Endpoint::Status | Endpoint::Operate | Endpoint::Login => {
                "To have it, mount the secret etl-oauth-operator."
            }
            Endpoint::Token | Endpoint::Proxy => "To have it, set proxy_allow, and invoke_auth to other than none.",
            _ => "Look at the function's own page.",
        };
        let words = ("There is no such page", "nothing is answered at this path", next);
        asked.problem(self, &problem("not_found", StatusCode::NOT_FOUND, words))
    }
}

fn is_operator(outcome: AuthOutcome) -> bool {
    matches!(outcome, AuthOutcome::Basic | AuthOutcome::Bearer | AuthOutcome::Session)
}

/// With the button that leads on.
fn linked(problem: Problem, door: Endpoint, refusal: Refusal) -> Problem {
    match (refusal, door) {
        (Refusal::Operator, _) => problem.with_link("/login", "Sign in"),
        (Refusal::CrossSite, Endpoint::Login) => problem.with_link("/login", "Open the page again"),
        (Refusal::Taken, _) if problem.link.is_none() => problem.with_link("/", "Run the job"),
        (Refusal::Forged | Refusal::CrossSite, Endpoint::Operate) => {
            problem.with_link("/status", "Open the page again")
        }
        (Refusal::Forged | Refusal::CrossSite, _) => problem.with_link("/enable", "Open the page again"),
        _ => problem,
    }
}
