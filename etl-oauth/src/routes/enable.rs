//! `/enable`: says what will be asked for, and leads to the provider.

use axum::{
    extract::{Query, State},
    response::Response,
};
use http::{HeaderValue, StatusCode, header};

use super::{
    App, State as AppState,
    reply::{self, Asked, Fields, Posted, problem},
};
use crate::{
    config::EnableAuth,
    grant,
    guard::{Csrf, Pending, Standing},
    keeper::Keeper,
    pages::{Enable, Page},
    provider::Grant,
    store::DEFAULT_ACCOUNT,
    token::Failure,
};

/// `GET`: the page. Nothing happens yet, so that a preview or a crawler starts nothing.
pub(super) async fn page(
    State(app): AppState,
    asked: Asked,
    Query(named): Query<Fields>,
) -> Result<Response, Response> {
    if app.config.provider.grant != Grant::AuthorizationCode {
        return app.begin_page(&asked, &named).await;
    }
    let account = named.account();
    app.may_enable(&asked, account).await?;
    let csrf = Csrf::issue(&app.key, &app.jar, &asked.headers).ok_or_else(|| app.no_randomness(&asked))?;
    let provider = app.authority.ready().await.map_err(|failure| app.not_ready(&asked, &failure))?;
    let Some(authorize_url) = &provider.authorize_url else { return Err(app.no_authorize_url(&asked)) };
    let page = Page::from(&Enable {
        base: &app.base,
        provider: &app.config.provider.title,
        scopes: &app.config.provider.scope.iter().map(String::as_str).collect::<Vec<_>>(),
        redirect_uri: &app.config.redirect_uri(),
        authorize_url,
        account: Some(account).filter(|account| *account != DEFAULT_ACCOUNT),
        state: app.state(account),
        open: app.config.enable_auth == EnableAuth::FirstVisit,
        csrf: &csrf.token,
    });
    Ok(reply::page(page, csrf.cookie))
}

/// `POST`: begins an authorisation and leads to the provider (RFC 6749 §4.1.1).
pub(super) async fn start(State(app): AppState, asked: Asked, form: Posted) -> Result<Response, Response> {
    let fields = reply::fields(form);
    let standing = app.may_enable(&asked, fields.account()).await?;
    if standing != Standing::Bearer && !Csrf::verify(&app.key, &app.jar, &asked.headers, &fields.csrf) {
        return Err(app.forged(&asked, "/enable"));
    }
    if app.config.provider.grant != Grant::AuthorizationCode {
        return app.begin(&asked, fields.account(), standing).await;
    }
    let now = app.clock.now();
    let provider = app.authority.ready().await.map_err(|failure| app.not_ready(&asked, &failure))?;
    let (pending, state, cookie) = Pending::begin(&app.key, &app.jar, fields.account(), app.config.state_lifetime, now)
        .map_err(|_| app.no_randomness(&asked))?;
    let client = app.authority.client(now).map_err(|failure| {
        let words = ("The client is not configured", failure.detail(), failure.class().next_step());
        asked.problem(&app, &problem("config", StatusCode::INTERNAL_SERVER_ERROR, words))
    })?;
    let redirect_uri = app.config.redirect_uri();
    let url = grant::authorize_url(&provider, &client.id, &redirect_uri, &state, pending.verifier())
        .ok_or_else(|| app.no_authorize_url(&asked))?;
    let operator = matches!(standing, Standing::Basic | Standing::Bearer);
    let url = app.authority.push(url, operator, now).await.map_err(|failure| app.not_ready(&asked, &failure))?;
    Ok(reply::see_other(url.as_str(), cookie))
}

/// Whether somebody has authorised it: then only an operator may do so again.
pub(super) fn is_taken(keeper: &Keeper) -> bool {
    keeper.current().is_some_and(|stored| stored.record.tokens.is_some())
}

impl App {
    /// Whether this caller may authorise that account now. Without an operator there is the account `default` alone:
    /// whoever comes first takes one, not as many as he has names for.
    pub(super) async fn may_enable(&self, asked: &Asked, account: &str) -> Result<Standing, Response> {
        asked.refuse_forwarding(self)?;
        self.keepers.check(account).map_err(|err| self.no_account(asked, &err))?;
        let standing = self.operator.standing(&asked.headers);
        match self.config.enable_auth {
            EnableAuth::Operator => match standing {
                Standing::Basic | Standing::Bearer => Ok(standing),
                Standing::Stranger | Standing::Unknown => Err(self.unauthorised(asked)),
            },
            EnableAuth::FirstVisit => {
                if !matches!(standing, Standing::Basic | Standing::Bearer) {
                    if account != DEFAULT_ACCOUNT {
                        return Err(self.unauthorised(asked));
                    }
                    let keeper = self.keeper(asked, account)?;
                    keeper.sync().await;
                    if is_taken(&keeper) {
                        return Err(self.taken(asked));
                    }
                }
                Ok(standing)
            }
        }
    }

    /// The state of an account, as far as this replica knows; asking makes no keeper of an account that has none.
    pub(super) fn state(&self, account: &str) -> crate::token::State {
        if account == DEFAULT_ACCOUNT {
            return self.keepers.get(account).map_or(crate::token::State::Disabled, |keeper| keeper.state());
        }
        crate::token::State::Disabled
    }

    pub(super) fn taken(&self, asked: &Asked) -> Response {
        let words = (
            "This function is already connected",
            "it has a token, and without an operator nobody can replace it from outside",
            "To connect it again, mount the secret etl-oauth-operator, or set its token secrets to `empty`.",
        );
        asked.problem(self, &problem("already_enabled", StatusCode::FORBIDDEN, words).with_link("/", "Run the job"))
    }

    /// Asks for the operator's credentials.
    pub(super) fn unauthorised(&self, asked: &Asked) -> Response {
        let words = (
            "Only the operator may do this",
            "the operator's password is missing or wrong",
            "Give any user name, and as password the value of the secret etl-oauth-operator.",
        );
        let mut response = asked.problem(self, &problem("unauthorised", StatusCode::UNAUTHORIZED, words));
        let challenge = HeaderValue::from_static("Basic realm=\"etl-oauth operator\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        response
    }

    /// A form that this browser did not get from here.
    pub(super) fn forged(&self, asked: &Asked, back: &'static str) -> Response {
        let words = (
            "The form is too old",
            "it was not issued to this browser, or the browser did not send its cookie back",
            "Open the page again and press the button there.",
        );
        asked.problem(self, &problem("bad_form", StatusCode::BAD_REQUEST, words).with_link(back, "Open the page again"))
    }

    pub(super) fn no_randomness(&self, asked: &Asked) -> Response {
        let words = ("The function cannot go on", "the system has no randomness", "Restart the function.");
        asked.problem(self, &problem("no_randomness", StatusCode::INTERNAL_SERVER_ERROR, words))
    }

    /// The provider cannot be asked now.
    fn not_ready(&self, asked: &Asked, failure: &Failure) -> Response {
        let words = ("The provider cannot be asked", &*failure.to_string(), failure.class().next_step());
        let error = failure.code().unwrap_or(failure.class().as_str()).to_owned();
        let problem = problem(&error, StatusCode::BAD_GATEWAY, words);
        asked.problem(self, &problem.with_link("/enable", "Try again"))
    }

    fn no_authorize_url(&self, asked: &Asked) -> Response {
        let words =
            ("There is nobody to ask", "the provider has no authorization endpoint", "Set the variable authorize_url.");
        asked.problem(self, &problem("config", StatusCode::INTERNAL_SERVER_ERROR, words))
    }
}
