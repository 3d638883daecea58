//! `provider test FILE`: walks a definition against a double of its provider, and shows each request that a function would
//! make, and what it reads of the answers. Nothing leaves this process.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};
use url::Url;

use token_keeper::{
    grant::{self, Authority, Credentials, Polled, Polling, TokenRequest},
    provider::{Definition, Grant, Pkce, Provider, Source, TokenKind},
    token::{Failure, Record, Secret, TokenResponse, Tokens},
};

use super::{
    Exit, Failure as Refusal, Outcome,
    arguments::Shape,
    definitions::read,
    double::{Double, client, kept},
    print, print_json,
};

/// Where a person would be led back.
const REDIRECT: &str = "https://gateway.example.com/function/etl-oauth/oauth2/callback";

/// One step, as it is shown.
struct Step {
    title: &'static str,
    lines: Vec<String>,
}

/// `provider test`.
pub(super) async fn test(file: &Path, shape: &Shape) -> Outcome {
    let Some((name, definition)) = read(file, shape)? else { return Ok(Exit::Mistaken) };
    let (steps, failure) = walk(&name, definition).await;
    if shape.json {
        let shown: Vec<_> = steps.iter().map(|step| json!({ "step": step.title, "lines": step.lines })).collect();
        print_json(&json!({ "file": name, "steps": shown, "failure": failure }));
    } else {
        let shown = steps.iter().map(|step| format!("## {}\n{}\n", step.title, step.lines.join("\n")));
        print(shown.collect::<Vec<_>>().join("\n").trim_end());
    }
    match failure {
        None => Ok(Exit::Done),
        Some(_) if shape.json => Ok(Exit::Failed),
        Some(why) => {
            Err(Refusal::new(Exit::Failed, "walk", why, "Look at the last request above, and at the definition."))
        }
    }
}

/// The steps of a definition, and why they ended early.
async fn walk(name: &str, definition: Definition) -> (Vec<Step>, Option<String>) {
    let overrides = definition.sample_overrides();
    let mut steps = Vec::new();
    let provider = match Provider::new(name, definition, overrides) {
        Ok(provider) => provider,
        Err(wrong) => return (steps, Some(wrong.join("; "))),
    };
    if provider.discovers {
        return (steps, Some("the endpoints come from the issuer's metadata, which the double does not have".into()));
    }
    let double = Double::new(provider.clone());
    let walk = Walk { authority: authority(&provider, &double), provider, double };
    let result = walk.all(&mut steps).await;
    (steps, result.err())
}

fn authority(provider: &Provider, double: &Double) -> Authority {
    Authority::new(provider.clone(), Credentials::fixed(client(provider)), double.wire())
}

struct Walk {
    provider: Provider,
    authority: Authority,
    double: Double,
}

impl Walk {
    async fn all(&self, steps: &mut Vec<Step>) -> Result<(), String> {
        let answer = match self.provider.grant {
            Grant::AuthorizationCode => self.code(steps).await?,
            Grant::DeviceCode => self.device(steps).await?,
            _ => self.ask(steps, "A token is asked for", None).await?,
        };
        let tokens = Record::default().authorised(answer, Timestamp::now(), self.provider.lifetime).tokens;
        let tokens = tokens.ok_or("there are no tokens")?;
        if let Some(why) = &tokens.withheld {
            return Err(format!("the access token is not used: {why}"));
        }
        if self.provider.grant.asks_again() {
            self.ask(steps, "The next token is asked for", Some(&tokens)).await?;
        } else if let Some(refresh_token) = &tokens.refresh_token {
            let renewed = self.authority.refresh(refresh_token, Some(&tokens), Timestamp::now()).await;
            self.shown(steps, "A renewal", renewed)?;
        }
        self.api(steps, &tokens);
        for (kind, token) in [
            (TokenKind::RefreshToken, tokens.refresh_token.as_ref()),
            (TokenKind::AccessToken, Some(&tokens.access_token)),
        ] {
            let Some(token) = token else { continue };
            let revoked = self.authority.revoke(token, kind, &tokens.kept, Timestamp::now()).await;
            let lines = self.requests();
            if let Some(result) = revoked {
                steps.push(Step { title: "A revocation", lines });
                result.map_err(|failure| failure.to_string())?;
            }
        }
        Ok(())
    }

    async fn code(&self, steps: &mut Vec<Step>) -> Result<TokenResponse, String> {
        let (verifier, now) = (Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), Timestamp::now());
        let url = grant::authorize_url(&self.provider, "CLIENT-ID", REDIRECT, "STATE", &verifier);
        let url = url.ok_or("there is no authorize_url, and no issuer that would name it")?;
        let mut lines = vec![address("GET", &url)];
        lines.extend(query(&url));
        steps.push(Step { title: "A person is asked", lines });
        let callback = &self.provider.callback;
        let mut back = format!("{REDIRECT}?{}=CODE&{}=STATE", callback.code, callback.state);
        let brought = self.provider.samples(Source::Redirect);
        for (name, value) in &brought {
            back.push_str(&format!("&{}={value}", self.provider.variables[name].at(name)));
        }
        steps.push(Step { title: "The person is back", lines: vec![format!("GET {back}")] });
        let seed = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let code = grant::Code { code: "CODE", state: "STATE" };
        let verifier = if self.provider.pkce == Pkce::S256 { verifier } else { Secret::new("") };
        let answer = self.authority.exchange(code, REDIRECT, &verifier, &seed, &brought, now).await;
        let answer = self.shown(steps, "The code becomes tokens", answer)?;
        self.owner(steps, answer).await
    }

    async fn device(&self, steps: &mut Vec<Step>) -> Result<TokenResponse, String> {
        let now = Timestamp::now();
        let codes = self.authority.device_codes(now).await;
        let mut lines = self.requests();
        let codes = codes.map_err(|failure| failure.to_string())?;
        lines.push(format!("→ {} at {}, for {} s", codes.user_code, codes.verification_uri, codes.lifetime.as_secs()));
        steps.push(Step { title: "The codes of a device", lines });
        let polled = self.authority.poll(&codes.device_code, &mut Polling::of(&codes, now), now).await;
        let answer = match polled {
            Polled::Allowed(answer) => Ok(answer),
            Polled::Over(failure) => Err(failure),
            Polled::Wait(_) => {
                return Err("the answer with a token counts as one that says to wait: look at device.pending".into());
            }
        };
        let answer = self.shown(steps, "The person has allowed it", answer)?;
        self.owner(steps, answer).await
    }

    async fn ask(
        &self,
        steps: &mut Vec<Step>,
        title: &'static str,
        tokens: Option<&Tokens>,
    ) -> Result<TokenResponse, String> {
        let now = Timestamp::now();
        if self.provider.grant == Grant::TokenExchange {
            let request = grant::token_exchange(&self.provider, &client(&self.provider), &Secret::new("SUBJECT-TOKEN"));
            let raw = self.double.wire().send(request).await.map_err(|lost| lost.into_failure().to_string())?;
            return self.shown(steps, title, grant::judge_token(&self.provider, &raw));
        }
        let answer = self.authority.ask(tokens, now).await;
        self.shown(steps, title, answer)
    }

    async fn owner(&self, steps: &mut Vec<Step>, answer: TokenResponse) -> Result<TokenResponse, String> {
        let owner = self.authority.owner(&answer, Timestamp::now()).await.map_err(|failure| failure.to_string())?;
        let mut lines = self.requests();
        if !lines.is_empty() {
            lines.push(format!("→ account {}", owner.map_or_else(|| "not known".to_owned(), |owner| owner.id)));
            steps.push(Step { title: "Whose it is", lines });
        }
        Ok(answer)
    }

    /// A call to the API, as far as the definition makes it.
    fn api(&self, steps: &mut Vec<Step>, tokens: &Tokens) {
        let provider = self.provider.with(&tokens.kept);
        let Some(base) = &provider.api_url else { return };
        let asked = provider_with_base(&provider, base);
        let client = client(&provider);
        let request = asked.as_ref().and_then(|asked| grant::userinfo(asked, &client, &tokens.access_token));
        let lines = request.map_or_else(|| vec![address("GET", base)], |request| request_lines(&request));
        steps.push(Step { title: "A call to the API", lines });
    }

    /// The requests since the last step, and what was read of the last answer.
    fn shown(
        &self,
        steps: &mut Vec<Step>,
        title: &'static str,
        answer: Result<TokenResponse, Failure>,
    ) -> Result<TokenResponse, String> {
        let mut lines = self.requests();
        if let Ok(answer) = &answer {
            lines.push(reading(answer));
        }
        steps.push(Step { title, lines });
        answer.map_err(|failure| failure.to_string())
    }

    fn requests(&self) -> Vec<String> {
        self.double.take().iter().flat_map(|(_, request)| request_lines(request)).collect()
    }
}

/// The same provider whose userinfo endpoint is the API's base: a request to it is one to the API.
fn provider_with_base(provider: &Provider, base: &Url) -> Option<Provider> {
    let mut definition = provider.definition().clone();
    definition.userinfo_url = Some(base.to_string());
    let overrides = definition.sample_overrides();
    Provider::new(&provider.name, definition, overrides).ok().map(|it| it.with(&kept(provider)).into_owned())
}

fn reading(answer: &TokenResponse) -> String {
    let life = match (answer.lifetime, answer.expires_at) {
        (Some(life), _) => format!("for {} s", life.as_secs()),
        (None, Some(end)) => format!("until {end}"),
        (None, None) => "whose end is not told".into(),
    };
    let token = if answer.unfinished.is_some() { "no access token that can be used" } else { "an access token" };
    let refresh = if answer.refresh_token.is_some() { ", a refresh token" } else { "" };
    let values: Vec<_> = answer.kept.iter().map(|(name, value)| format!(", {name} = {value}")).collect();
    format!("→ {token} {life}{refresh}{}", values.concat())
}

fn address(method: &str, url: &Url) -> String {
    let mut bare = url.clone();
    bare.set_query(None);
    format!("{method} {bare}")
}

fn query(url: &Url) -> impl Iterator<Item = String> {
    let pairs = url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| format!("    ? {pair}"))
}

fn request_lines(request: &TokenRequest) -> Vec<String> {
    let mut lines = vec![address(request.method().as_str(), request.url())];
    lines.extend(query(request.url()));
    for (name, value) in request.headers() {
        let value = value.to_str().unwrap_or("…");
        let pair = value.strip_prefix("Basic ").and_then(|pair| String::from_utf8(STANDARD.decode(pair).ok()?).ok());
        lines.push(format!("{name}: {}", pair.map_or_else(|| value.to_owned(), |pair| format!("Basic of {pair}"))));
    }
    match serde_json::from_str::<Value>(request.body()) {
        Ok(json) => lines.push(format!("    {json:#}").replace('\n', "\n    ")),
        Err(_) => {
            lines.extend(request.body().split('&').filter(|pair| !pair.is_empty()).map(|pair| format!("    {pair}")))
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_built_in_definition_can_be_walked_to_its_end() {
        for name in Definition::names().filter(|name| *name != "custom") {
            let definition = Definition::builtin(name).unwrap();
            if definition.token_url.is_none() && !definition.is_self_signed() {
                continue;
            }
            let (steps, failure) = walk(name, definition).await;
            assert_eq!(failure, None, "{name}: {:?}", steps.last().map(|step| &step.lines));
            assert!(steps.len() > 1, "{name}");
        }
    }

    #[tokio::test]
    async fn the_steps_show_each_request_with_samples_in_the_places_of_secrets() {
        let text = "authorize_url = 'https://{sub}.a.example/authorize'\ntoken_url = 'https://{sub}.a.example/token'\n\
                    lookup_url = 'https://a.example/me'\napi_url = 'https://{dc}.api.a.example'\nclient_auth = 'post'\n\
                    answer = { access_token = ['data.token'], success = { at = 'ok', is = ['true'] } }\n\
                    api.headers = { X-Key = '{key}' }\n[lookup]\nlist = '/sites'\nonly = [{ at = 'kind', is = ['crm'] }]\n\
                    [variables.sub]\n[variables.dc]\nfrom = 'lookup'\n[variables.key]\nfrom = 'secret'\nat = 'api-key'";
        let definition = Definition::read("acme.toml", text).unwrap();
        let (steps, failure) = walk("acme.toml", definition).await;
        assert_eq!(failure, None);
        let all: Vec<_> = steps.iter().map(|step| format!("{}: {}", step.title, step.lines.join("|"))).collect();
        let titles: Vec<_> = steps.iter().map(|step| step.title).collect();
        assert_eq!(
            titles,
            ["A person is asked", "The person is back", "The code becomes tokens", "A renewal", "A call to the API"]
        );
        let exchange = &all[2];
        for wanted in [
            "POST https://acme.a.example/token",
            "    client_secret=CLIENT-SECRET",
            "GET https://a.example/me",
            "x-key: SECRET-key",
            "→ an access token for 3600 s, a refresh token, dc = acme",
        ] {
            assert!(exchange.contains(wanted), "{wanted}: {exchange}");
        }
        assert!(
            all[4].contains("GET https://acme.api.a.example/") && all[4].contains("authorization: Bearer ACCESS-TOKEN")
        );
    }

    #[tokio::test]
    async fn a_walk_that_fails_says_why() {
        let text = "token_url = 'https://a.example/token'";
        let (_, failure) = walk("acme.toml", Definition::read("acme.toml", text).unwrap()).await;
        assert!(failure.unwrap().contains("authorize_url"));
    }
}
