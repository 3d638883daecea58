//! `/enable` for the grants without an authorization endpoint: a code for any device, or no person at all.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::{
    App,
    audit::{OPERATOR, STRANGER},
    connection::Named,
    respond::{self, Asked, problem},
};
use crate::{
    format::whole,
    guard::{Csrf, Decision, EnableAuth, Endpoint, Refusal, Who},
    pages::{Begin, Device, Page},
};
use token_keeper::{
    api::ApiError,
    provider::Grant,
    renewal::{Invitation, Keeper},
    trace_context,
};

/// How often the page with the code looks again, in seconds.
const LOOK_AGAIN: u32 = 5;

impl App {
    /// The page with the button, or with the code that was asked for.
    pub(super) async fn begin_page(&self, asked: &Asked, named: &Named, waits: bool) -> Result<Response, Response> {
        match self.judge(Endpoint::Enable, asked, named, "").await? {
            Decision::Admit(_) => {}
            // The browser that waits has asked before. When it is done, the page for everybody says so.
            Decision::Refuse(Refusal::Taken) if waits => {
                return Ok(respond::see_other(&self.config.page("/done"), None));
            }
            Decision::Refuse(refusal) => return Err(self.refuse(Endpoint::Enable, asked, refusal)),
        }
        if waits {
            let keeper = self.existing(asked, named).await?;
            // It may be another replica that asks the provider.
            keeper.sync().await;
            let Some(invitation) = keeper.invitation() else {
                return Ok(respond::see_other(&self.config.page("/done"), None));
            };
            return Ok(self.device_page(named, &invitation));
        }
        let csrf = Csrf::issue(&self.key, &self.jar, &asked.headers).ok_or_else(|| self.no_randomness(asked))?;
        let provider = named.connection.provider();
        let page = Page::from(&Begin {
            base: &self.base,
            provider: &provider.title,
            scopes: &provider.scope.iter().map(String::as_str).collect::<Vec<_>>(),
            connection: named.connection.shown(),
            account: named.shown(),
            device: provider.grant == Grant::DeviceCode,
            state: named.connection.state(&named.account),
            open: self.config.enable_auth == EnableAuth::FirstVisit,
            csrf: &csrf.token,
        });
        Ok(respond::page(page, csrf.cookie))
    }

    /// The button was pressed, or a command line asks.
    pub(super) async fn begin(&self, asked: &Asked, named: &Named, who: Who) -> Result<Response, Response> {
        let keeper = self.keeper(asked, named)?;
        let by = if who == Who::Operator { OPERATOR } else { STRANGER };
        if named.connection.provider().grant == Grant::DeviceCode {
            return self.invite(asked, named, &keeper, by).await;
        }
        // Only an operator is let through the waits that earlier failures have set.
        let result = match who {
            Who::Operator => trace_context::acting(by, keeper.refresh()).await,
            _ => trace_context::acting(by, keeper.token()).await,
        };
        let token = result.map_err(|err| {
            let err = ApiError::from(err);
            let words = ("It could not be connected", &*err.to_string(), err.next_step());
            asked.problem(self, &problem(err.code(), err.status(), words).with_link("/enable", "Try again"))
        })?;
        if asked.wants_html() {
            return Ok(respond::see_other(&self.config.page("/done"), None));
        }
        let body = json!({
            "refreshed": true,
            "connection": named.connection.name(),
            "account": named.account,
            "generation": token.generation(),
            "expires_at": token.tokens().expires_at.map(whole),
        });
        Ok(respond::json(StatusCode::OK, &body))
    }

    async fn invite(&self, asked: &Asked, named: &Named, keeper: &Keeper, by: &str) -> Result<Response, Response> {
        let invitation = trace_context::acting(by, keeper.invite()).await.map_err(|failure| {
            let words = ("The provider gave no code", &*failure.to_string(), failure.class().next_step());
            let error = failure.code().unwrap_or(failure.class().as_str()).to_owned();
            let problem = problem(&error, StatusCode::BAD_GATEWAY, words).with_reason(failure.reason());
            asked.problem(self, &problem.with_link("/enable", "Try again"))
        })?;
        if asked.wants_html() {
            return Ok(self.device_page(named, &invitation));
        }
        let body = json!({
            "connection": named.connection.name(),
            "account": named.account,
            "user_code": invitation.user_code,
            "verification_uri": invitation.verification_uri,
            "verification_uri_complete": invitation.verification_uri_complete,
            "ends_at": whole(invitation.ends_at),
        });
        Ok(respond::json(StatusCode::ACCEPTED, &body))
    }

    fn device_page(&self, named: &Named, invitation: &Invitation) -> Response {
        let page = Page::from(&Device {
            base: &self.base,
            provider: &named.connection.provider().title,
            account: named.shown(),
            user_code: &invitation.user_code,
            verification_uri: &invitation.verification_uri,
            verification_uri_complete: invitation.verification_uri_complete.as_ref(),
            ends_at: invitation.ends_at,
            failure: invitation.failure.as_deref(),
            now: self.clock.now(),
        });
        let mut response = page.into_response();
        if invitation.failure.is_none() {
            let next = self.config.page(&format!("/enable?wait=1&{}", named.query()));
            if let Ok(refresh) = HeaderValue::from_str(&format!("{LOOK_AGAIN}; url={next}")) {
                response.headers_mut().insert(header::REFRESH, refresh);
            }
        }
        response
    }
}
