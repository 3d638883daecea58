//! The doors: what a request brings along is gathered, [`guard::decide`](crate::guard::decide) decides, and this says so.

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use http::{HeaderValue, StatusCode, header};

use super::{
    App,
    enable::is_taken,
    respond::{Asked, problem},
};
use crate::{
    guard::{
        Call, Caller, Credentials, Csrf, Decision, EnableAuth, Endpoint, InvokeAuth, Refusal, Site, Standing, State,
        Who, decide,
    },
    pages::Problem,
};
use token_keeper::store::DEFAULT_ACCOUNT;

/// The longest body that is read to check its signature.
const BODY_LIMIT: usize = 1 << 20;

/// A caller who was let in.
pub(super) struct Admitted {
    /// As whom.
    pub(super) who: Who,
    /// Under which name the call is remembered, where it may come only once.
    pub(super) once: Option<String>,
}

impl App {
    /// Lets a request for `account` in, as whom, or gives the answer that it gets instead. `csrf` is what its form says.
    pub(super) async fn admit(
        &self,
        door: Endpoint,
        asked: &Asked,
        account: &str,
        csrf: &str,
    ) -> Result<Who, Response> {
        if matches!(door, Endpoint::Enable | Endpoint::Callback) {
            self.keepers.check(account).map_err(|err| self.no_account(asked, &err))?;
        }
        let (operator, pause) = self.operator.judge(&asked.headers, self.clock.now());
        let is_anyone = !matches!(operator, Standing::Basic | Standing::Bearer);
        let is_first = self.config.enable_auth == EnableAuth::FirstVisit && is_anyone;
        let state = State {
            enable_auth: self.config.enable_auth,
            taken: is_first && self.is_taken(door, asked, account).await?,
            named: account != DEFAULT_ACCOUNT,
            closed: false,
            opened: false,
        };
        self.decide(door, asked, csrf, (operator, pause), Caller::Anonymous, state).await
    }

    /// What of a body is signed, which is all of it or nothing; and the body, to be read by whoever answers.
    pub(super) async fn signed_part(&self, asked: &Asked, body: Body) -> Result<(Bytes, Body), Response> {
        if !self.callers.reads_body() {
            return Ok((Bytes::new(), body));
        }
        let bytes = self.whole(asked, body).await?;
        Ok((bytes.clone(), Body::from(bytes)))
    }

    /// A body that is not too long to be held.
    pub(super) async fn whole(&self, asked: &Asked, body: Body) -> Result<Bytes, Response> {
        axum::body::to_bytes(body, BODY_LIMIT).await.map_err(|_| self.too_large(asked))
    }

    /// Lets a caller in, by the rules of `invoke_auth`. `opened` says whether the configuration opens this door at all.
    pub(super) async fn admit_caller(
        &self,
        door: Endpoint,
        asked: &Asked,
        signed: &[u8],
        opened: bool,
    ) -> Result<Admitted, Response> {
        let now = self.clock.now();
        let call = Call { method: &asked.method, uri: &asked.uri, headers: &asked.headers, body: signed };
        let judged = self.callers.judge(call, now).await;
        // Who proved who he is has not guessed at the operator's secret.
        let (operator, pause) = match judged.caller {
            Caller::Proved => (Standing::Stranger, judged.pause),
            _ => self.operator.judge(&asked.headers, now),
        };
        let pause =
            if matches!(operator, Standing::Basic | Standing::Bearer) { pause } else { pause.max(judged.pause) };
        let state = State {
            enable_auth: self.config.enable_auth,
            taken: false,
            named: false,
            closed: self.callers.is_closed(),
            opened,
        };
        let who = self.decide(door, asked, "", (operator, pause), judged.caller, state).await?;
        Ok(Admitted { who, once: judged.once })
    }

    fn too_large(&self, asked: &Asked) -> Response {
        let words = ("That is too much", "the body is larger than 1 MiB", "Send less.");
        asked.problem(self, &problem("too_large", StatusCode::PAYLOAD_TOO_LARGE, words))
    }

    async fn decide(
        &self,
        door: Endpoint,
        asked: &Asked,
        csrf: &str,
        (operator, pause): (Standing, std::time::Duration),
        caller: Caller,
        state: State,
    ) -> Result<Who, Response> {
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
        match decision {
            Decision::Admit(who) => Ok(who),
            Decision::Refuse(refusal) => Err(self.refuse(door, asked, refusal)),
        }
    }

    /// Whether somebody has authorised the account, also by another replica. Asked only where it decides.
    async fn is_taken(&self, door: Endpoint, asked: &Asked, account: &str) -> Result<bool, Response> {
        if account != DEFAULT_ACCOUNT || !matches!(door, Endpoint::Enable | Endpoint::Callback) {
            return Ok(false);
        }
        let keeper = self.keeper(asked, account)?;
        keeper.sync().await;
        // What cannot be read may be somebody's: a damaged record is not an account that nobody has authorised.
        if keeper.current().is_none() && !keeper.is_store_readable() {
            let words = (
                "The function cannot be connected just now",
                "the store cannot be read, so nobody knows whether it is connected already",
                "Try again later; if it lasts, the operator finds the reason in the log.",
            );
            return Err(asked.problem(self, &problem("store_unavailable", StatusCode::SERVICE_UNAVAILABLE, words)));
        }
        Ok(is_taken(&keeper))
    }

    pub(super) fn refuse(&self, door: Endpoint, asked: &Asked, refusal: Refusal) -> Response {
        let problem = match refusal {
            Refusal::Hidden => return self.hidden(asked, door),
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
                    "the operator's password is missing or wrong",
                    "Give any user name, and as password the value of the secret etl-oauth-operator.",
                ),
            ),
            Refusal::Caller(why) => problem(
                "unauthorised",
                StatusCode::UNAUTHORIZED,
                ("Not everybody may call this function", why, "Prove who you are, as invoke_auth wants it."),
            ),
            Refusal::Forbidden => problem(
                "forbidden",
                StatusCode::FORBIDDEN,
                (
                    "You may not call this function",
                    "the token does not permit this function",
                    "Ask for a permission that names it.",
                ),
            ),
            Refusal::Unavailable => problem(
                "keys_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                (
                    "Nobody can be checked just now",
                    "what callers are checked with cannot be had",
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
            Refusal::Taken => problem(
                "already_enabled",
                StatusCode::FORBIDDEN,
                (
                    "This function is already connected",
                    "it has a token, and without an operator nobody can replace it from outside",
                    "To connect it again, mount the secret etl-oauth-operator, or set its token secrets to `empty`.",
                ),
            ),
        };
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
            Refusal::Operator => {
                let challenge = HeaderValue::from_static("Basic realm=\"etl-oauth operator\", charset=\"UTF-8\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            _ => {}
        }
        response
    }

    fn hidden(&self, asked: &Asked, door: Endpoint) -> Response {
        let next = match door {
            Endpoint::Status | Endpoint::Operate => "To have it, mount the secret etl-oauth-operator.",
            Endpoint::Token | Endpoint::Proxy => "To have it, set proxy_allow, and invoke_auth to other than none.",
            _ => "Look at the function's own page.",
        };
        let words = ("There is no such page", "nothing is answered at this path", next);
        asked.problem(self, &problem("not_found", StatusCode::NOT_FOUND, words))
    }
}

/// With the button that leads on.
fn linked(problem: Problem, door: Endpoint, refusal: Refusal) -> Problem {
    match (refusal, door) {
        (Refusal::Taken, _) => problem.with_link("/", "Run the job"),
        (Refusal::Forged | Refusal::CrossSite, Endpoint::Operate) => {
            problem.with_link("/status", "Open the page again")
        }
        (Refusal::Forged | Refusal::CrossSite, _) => problem.with_link("/enable", "Open the page again"),
        _ => problem,
    }
}
