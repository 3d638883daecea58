//! The examples of `providers/FORMAT.md`, each made into the requests that it stands for and the answers that it reads; and the
//! list of fields at its end.

use std::{fmt::Write as _, fs};

use aws_lc_rs::hmac;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use token_keeper::{
    grant::{self, Client, HttpResponse, TokenRequest},
    provider::{Definition, Overrides, Provider, TokenKind, Values},
    token::{FailureKind, Record, Secret},
};

use super::{REDIRECT, folder, is_current};

/// The example of a section, of those that there are in it the one with this number.
fn example(heading: &str, number: usize) -> Definition {
    let format = fs::read_to_string(folder("providers/FORMAT.md")).unwrap();
    let section = format.split(&format!("\n### {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section {heading}"));
    let section = section.split("\n### ").next().unwrap();
    let text = section.split("```toml\n").nth(number + 1).and_then(|rest| rest.split("```").next()).unwrap();
    Definition::read(heading, text).unwrap_or_else(|wrong| panic!("{}", wrong.join("\n")))
}

fn with(heading: &str, variables: &[(&str, &str)]) -> Provider {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let overrides = Overrides { variables, redirect_uri: Some(REDIRECT.into()), ..Overrides::default() };
    Provider::new("example", example(heading, 0), overrides).unwrap()
}

fn provider(heading: &str) -> Provider {
    with(heading, &[])
}

fn client() -> Client {
    Client { id: "id".into(), secret: Some(Secret::new("s")), ..Client::default() }
}

fn authorize(provider: &Provider) -> String {
    grant::authorize_url(provider, "id", "https://f.example/cb", "st", &Secret::new("v")).unwrap().into()
}

fn code(provider: &Provider) -> TokenRequest {
    grant::authorization_code(provider, &client(), "c", "r", None)
}

fn renewal(provider: &Provider) -> TokenRequest {
    grant::refresh_token(provider, &client(), &Secret::new("rt"))
}

fn raw(body: &str) -> HttpResponse {
    HttpResponse { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into(), at: Timestamp::UNIX_EPOCH }
}

#[test]
fn more_parameters_of_the_authorization_request() {
    let url = authorize(&provider("More parameters of the authorization request"));
    for wanted in ["access_type=offline", "prompt=consent", "response_type=code+id_token", "response_mode=query"] {
        assert!(url.contains(wanted), "{url}");
    }
    assert!(!url.contains("response_type=code&"), "{url}");
}

#[test]
fn more_parameters_of_token_requests_and_another_grant_type() {
    let provider = with("More parameters of token requests, and another grant type", &[("account", "a 1")]);
    let request = grant::client_credentials(&provider, &client());
    assert_eq!(request.body(), "account_id=a+1&audience=https%3A%2F%2Fapi.a.example&grant_type=account_credentials");
}

#[test]
fn a_password_grant() {
    let secrets = [("user", "u"), ("word", "w&w")].map(|(name, value)| (name.to_owned(), Secret::new(value)));
    let client = Client { secrets: secrets.into(), ..client() };
    let request = grant::client_credentials(&provider("A password grant"), &client);
    assert_eq!(
        request.body(),
        "client_id=id&client_secret=s&credtype=authtoken&grant_type=password&password=w%26w&username=u"
    );
}

#[test]
fn url_variables() {
    let variables = [("subdomain", "acme"), ("tenant", "t-1"), ("server", "eu.a.example")];
    let it = with("URL variables", &variables);
    assert!(authorize(&it).starts_with("https://acme.a.example/t-1/authorize?"));
    assert_eq!(it.token_url.as_str(), "https://eu.a.example/token");
    assert_eq!(it.api_url.unwrap().as_str(), "https://api-eu.a.example/");
    // Whatever could lead elsewhere: another host, a port, a user, an encoded slash, a way up, another alphabet.
    for (name, evil) in [
        ("subdomain", "evil.com/"),
        ("subdomain", "a@evil"),
        ("subdomain", "evil#"),
        ("subdomain", "a%2f"),
        ("subdomain", "a:1"),
        ("subdomain", "еxample"),
        ("subdomain", "a.b"),
        ("tenant", ".."),
        ("tenant", "a/b"),
        ("tenant", "a%2Fb"),
        ("tenant", "a?b"),
        ("server", "evil.com"),
        ("server", "a.test:1"),
        ("server", "a.test/x"),
        ("server", "u@a.test"),
        ("server", "evil.com#.a.example"),
        ("server", "xn--80ak6aa92e.com"),
    ] {
        let given = variables.map(|(known, value)| (known, if known == name { evil } else { value }));
        let variables = given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let overrides = Overrides { variables, ..Overrides::default() };
        let wrong = Provider::new("example", example("URL variables", 0), overrides).unwrap_err();
        assert!(wrong.len() == 1 && wrong[0].starts_with(&format!("provider_{name} must be ")), "{evil}: {wrong:?}");
    }
}

#[test]
fn scopes_and_pkce() {
    let url = authorize(&provider("Scopes and PKCE"));
    assert!(url.contains("&scope=read+write&") && !url.contains("challenge"), "{url}");
}

#[test]
fn client_authentication() {
    let it = provider("Client authentication");
    // Basic of `s:`, the secret as user without a password.
    assert_eq!(renewal(&it).authorization().unwrap(), "Basic czo=");
    let revocation = grant::revocation(&it, &client(), &Secret::new("t"), TokenKind::RefreshToken).unwrap();
    assert!(revocation.authorization().is_none() && revocation.body().contains("client_secret=s"));
    let mut schema = Definition::schema();
    let known = schema["$defs"]["ClientAuth"]["oneOf"].take();
    let format = fs::read_to_string(folder("providers/FORMAT.md")).unwrap();
    for auth in known.as_array().unwrap() {
        assert!(format.contains(&format!("`{}`", auth["const"].as_str().unwrap())), "{auth}");
    }
}

#[test]
fn bodies() {
    let it = provider("Bodies");
    let json: Value = serde_json::from_str(code(&it).body()).unwrap();
    assert_eq!((&json["code"], &json["client_secret"]), (&"c".into(), &"s".into()));
    let renewal = renewal(&it);
    assert_eq!((renewal.method().as_str(), renewal.body()), ("GET", ""));
    assert_eq!(renewal.url().query(), Some("grant_type=refresh_token&refresh_token=rt&client_id=id&client_secret=s"));
}

#[test]
fn renamed_parameters() {
    let it = provider("Renamed parameters");
    assert_eq!(
        authorize(&it),
        "https://a.example/authorize?response_type=code&app_id=id&redirectUri=https%3A%2F%2Ff.example%2Fcb&st=st"
    );
    assert_eq!(code(&it).body(), "grant_type=authorization_code&redirect_uri=r&appKey=id&auth_code=c&secret=s");
    assert_eq!((&*it.callback.code, &*it.callback.state), ("auth_code", "st"));
}

#[test]
fn renamed_fields() {
    let body = r#"{"data":[{"token":"a"}],"refreshToken":"r","expireTime":1800000000000,"granted":["x","y"],"token_type":"user"}"#;
    let answer = grant::judge_token(&provider("Renamed fields"), &raw(body)).unwrap();
    assert_eq!((answer.access_token.expose(), answer.refresh_token.unwrap().expose()), ("a", "r"));
    assert_eq!(answer.expires_at, Timestamp::from_second(1_800_000_000).ok());
    assert_eq!(answer.scope.as_deref(), Some("x y"));
}

#[test]
fn success_by_another_sign() {
    let it = provider("Success by another sign");
    let judge = |body: &str| grant::judge_token(&it, &raw(body));
    assert!(judge(r#"{"result":"0000","access_token":"a"}"#).is_ok());
    for (body, class) in [
        (r#"{"result":"0001","access_token":"a"}"#, FailureKind::Config),
        (r#"{"result":"0000","errcode":4001}"#, FailureKind::InvalidGrant),
        (r#"{"result":"0000"}"#, FailureKind::MalformedAnswer),
    ] {
        assert_eq!(judge(body).unwrap_err().class(), class, "{body}");
    }
}

#[test]
fn h12_o6_limits_and_reasons() {
    let it = provider("Limits and reasons");
    let body = r#"{"error":"access_denied","error_description":"You made Too many requests","error_codes":[7]}"#;
    let failure = grant::judge_token(&it, &raw(body)).unwrap_err();
    assert_eq!((failure.class(), failure.reason()), (FailureKind::RateLimited, Some("error_codes=7")));
    let facts = token_keeper::api::Facts::of(&it, "id").unwrap();
    assert!(facts.limits.told_in[0].is_in(br#"{"status":429}"#) && !facts.limits.told_in[0].is_in(b"{}"));
}

#[test]
fn h7_a_tenant_of_the_redirect() {
    let it = provider("A tenant of the redirect");
    assert_eq!(it.redirect_must_bring(), ["prefix"]);
    let back = it.with(&[("prefix".to_owned(), "acme".to_owned())].into());
    assert_eq!(code(&back).url().as_str(), "https://acme.a.example/token");
    assert_eq!(renewal(&back).url().as_str(), "https://acme.a.example/token");
}

#[test]
fn o7_h15_what_is_registered() {
    let it = provider("What is registered");
    let redirect = "https://f.example/function/x/oauth2/callback".parse().unwrap();
    assert_eq!(it.callback.to_register(&redirect), "f.example");
    assert_eq!(it.rsa_algorithm.name(), "PS256");
}

#[test]
fn another_address_for_renewals() {
    let it = provider("Another address for renewals");
    assert_eq!((code(&it).url().path(), renewal(&it).url().path()), ("/token", "/refresh"));
}

#[test]
fn the_access_token_is_exchanged() {
    let it = provider("The access token is exchanged");
    let answer = grant::judge_token(&it, &raw(r#"{"access_token":"a1"}"#)).unwrap();
    let request = grant::refresh_token(&it, &client(), &answer.refresh_token.unwrap());
    assert_eq!(request.url().query(), Some("client_id=id&client_secret=s&grant_type=xx_exchange&xx_token=a1"));
}

#[test]
fn an_answer_without_a_refresh_token_leaves_the_old_one() {
    let it = provider("Another address for renewals");
    let read = |body: &str| grant::judge_token(&it, &raw(body)).unwrap();
    let record =
        Record::default().authorised(read(r#"{"access_token":"a","refresh_token":"r"}"#), Timestamp::UNIX_EPOCH, None);
    let record = record.renewed(read(r#"{"access_token":"b"}"#), Timestamp::UNIX_EPOCH, None);
    let tokens = record.tokens.unwrap();
    assert_eq!((tokens.access_token.expose(), tokens.refresh_token.unwrap().expose()), ("b", "r"));
}

#[test]
fn kept_values() {
    let it = provider("Kept values");
    assert_eq!((it.token_url.as_str(), &it.api_url), ("https://accounts.a.example/token", &None));
    let redirect: Values =
        [("accounts", "https://accounts.a.test"), ("realm", "42")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let back = it.with(&redirect);
    assert_eq!(code(&back).url().as_str(), "https://accounts.a.test/token");
    let answer = r#"{"access_token":"a","org":{"api":{"url":"https://eu.a.example"}}}"#;
    let answer = grant::consented(&back, grant::judge_token(&back, &raw(answer)).unwrap(), &redirect);
    let account = it.with(&answer.kept);
    assert_eq!(account.api_url.as_ref().unwrap().as_str(), "https://eu.a.example/42");
    assert_eq!(renewal(&account).url().as_str(), "https://accounts.a.test/token");
    let evil = r#"{"access_token":"a","org":{"api":{"url":"https://evil.test"}}}"#;
    let evil = grant::judge_token(&it, &raw(evil)).unwrap();
    assert_eq!(evil.unfinished.as_ref().unwrap().class(), FailureKind::MalformedAnswer);
    assert!(evil.kept.is_empty());
}

#[test]
fn lifetimes() {
    let it = provider("Lifetimes");
    assert_eq!(it.renew_before.unwrap().as_secs(), 30, "h4");
    let life = |body: &str| {
        let answer = grant::judge_token(&it, &raw(body)).unwrap();
        answer.lifetime.map(|life| life.as_secs()).or_else(|| answer.expires_at.map(|at| at.as_second().unsigned_abs()))
    };
    for (body, wanted) in [
        (r#"{"access_token":"a","ttl":"3600000"}"#, Some(3600)),
        (r#"{"access_token":"a","ttl":3600000.0}"#, Some(3600)),
        (r#"{"access_token":"a","until":"1970-01-01T01:00:00Z"}"#, Some(3600)),
        (r#"{"access_token":"a"}"#, None),
    ] {
        assert_eq!(life(body), wanted, "{body}");
    }
    let answer = grant::judge_token(&it, &raw(r#"{"access_token":"a","refresh_token":"r"}"#)).unwrap();
    assert_eq!(answer.refresh_lifetime.unwrap().as_secs(), 31_536_000);
    let asked = grant::introspection(&it, &client(), &answer.access_token).unwrap();
    assert_eq!((asked.url().path(), asked.body()), ("/introspect", "token=a&token_type_hint=access_token"));
    assert!(asked.authorization().is_some(), "only a client may ask");
    let end = |body: &str| grant::judge_introspection(&it, &raw(body)).map(Timestamp::as_second);
    assert_eq!(end(r#"{"active":true,"exp":1800000000}"#), Some(1_800_000_000));
    assert_eq!(end(r#"{"ttl":60000}"#), Some(60));
    assert_eq!((end(r#"{"active":false,"exp":1800000000}"#), end(r#"{"active":true}"#), end("")), (None, None, None));
}

#[test]
fn odd_authorization_urls() {
    assert_eq!(
        authorize(&provider("Odd authorization URLs")),
        "https://a.example/app#/oauth?response_type=code&client_id=id&redirect_uri=https://f.example/cb&state=st"
    );
}

fn hex_of(text: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"s"), text.as_bytes());
    tag.as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

#[test]
fn signatures() {
    let it = provider("Signatures");
    let request = code(&it);
    let (fields, signature) = request.body().rsplit_once("&sign=").unwrap();
    let mut sorted: Vec<&str> = fields.split('&').collect();
    sorted.sort_unstable();
    assert_eq!(signature, hex_of(&format!("/token{}", sorted.join("&"))).to_uppercase());

    let signed = "code=c&host=YWRtaW4%3D&shop=acme.example&state=st&timestamp=1337178173";
    let query = |signature: &str| {
        format!("hmac={signature}&state=st&code=c&shop=acme.example&host=YWRtaW4%3D&timestamp=1337178173")
    };
    assert!(grant::is_signed(&it, &client(), &query(&hex_of(signed))));
    // The example of a provider that signs so.
    let documented = "code=0907a61c0c8d55e99db179b68161bc00&hmac=700e2dadb827fcc8609e9d5ce208b2e9cdaab9df07390d2cbca10d7c328fc4bf\
                      &shop=some-shop.myshopify.com&state=0.6784241404160823&timestamp=1337178173";
    let hush = Client { secret: Some(Secret::new("hush")), ..client() };
    assert!(grant::is_signed(&it, &hush, documented) && !grant::is_signed(&it, &client(), documented));
    let other = Client { secret: Some(Secret::new("other")), ..client() };
    assert!(!grant::is_signed(&it, &other, &query(&hex_of(signed))), "it is signed with the client's secret");
    for wrong in [query(&hex_of("code=c")), query(""), signed.to_owned(), format!("{}&hmac=x", query(&hex_of(signed)))]
    {
        assert!(!grant::is_signed(&it, &client(), &wrong), "{wrong}");
    }
    assert!(grant::is_signed(&provider("Bodies"), &client(), signed), "others do not sign");

    let provider = Provider::new("example", example("Signatures", 1), Overrides::default()).unwrap();
    let client = Client { id: "id".into(), assertion: Some(Secret::new("e.y.J")), ..Client::default() };
    let request = grant::refresh_token(&provider, &client, &Secret::new("rt"));
    assert_eq!(
        request.body(),
        "grant_type=refresh_token&refresh_token=rt&client_id=id&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=e.y.J",
        "parameters are each request's own"
    );
    let request = grant::authorization_code(&provider, &client, "c", "r", None);
    assert_eq!(request.body(), "grant_type=authorization_code&code=c&redirect_uri=r&client_id=id&client_secret=e.y.J");
}

#[test]
fn a_second_exchange() {
    let it = provider("A second exchange");
    let answer = grant::judge_token(&it, &raw(r#"{"access_token":"a","refresh_token":"r"}"#)).unwrap();
    let request = grant::second(&it, &client(), &answer).unwrap();
    assert_eq!(request.body(), r#"{"resource":"https://crm.a.example","token":"a"}"#);
    assert!(request.authorization().is_none() && it.second_on_renewal);
}

#[test]
fn revocation() {
    let it = provider("Revocation");
    let of = |kind| grant::revocation(&it, &client(), &Secret::new("t"), kind);
    let request = of(TokenKind::AccessToken).unwrap();
    assert_eq!((request.method().as_str(), request.url().path()), ("DELETE", "/apps/id/token"));
    assert_eq!((request.body(), &request.headers()["authorization"]), ("reason=over", &"Bearer t".parse().unwrap()));
    assert_eq!(request.headers()["x-version"], "2");
    assert!(of(TokenKind::RefreshToken).is_none());
}

#[test]
fn the_api() {
    let it = provider("The API");
    let request = grant::userinfo(&it, &client(), &Secret::new("t")).unwrap();
    assert_eq!(request.url().as_str(), "https://api.a.example/me");
    let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
    assert_eq!([header("x-token"), header("x-client"), header("x-version")], ["t", "id", "3"]);
    let facts = token_keeper::api::Facts::of(&it, "id").unwrap();
    assert_eq!((facts.header.as_str(), &*facts.prefix, facts.expired.len()), ("x-token", "", 2));
    assert_eq!((&facts.headers["x-client"], facts.limits.remaining[0].as_str()), (&"id".parse().unwrap(), "x-left"));
    assert!(facts.expired_in.unwrap().is_in(br#"{"status":401}"#));
}

/// The fields of one table of the schema, a line each; with the values where only some will do.
fn fields(schema: &Value, table: &Value, out: &mut String) {
    for (name, field) in table["properties"].as_object().unwrap() {
        let text = |it: &Value| it["description"].as_str().unwrap_or_default().replace('\n', " ");
        let target =
            [&field["$ref"], &field["anyOf"][0]["$ref"], &field["items"]["$ref"]].into_iter().find_map(Value::as_str);
        let target = target.and_then(|it| schema.pointer(it.trim_start_matches('#')));
        let mut line = text(field);
        if let Some(const_value) = field["const"].as_str() {
            line = format!("`{const_value}`");
        }
        let values = target.map(|target| (target["oneOf"].as_array(), target["enum"].as_array()));
        if let Some((Some(values), _)) = values
            && values[0]["const"].is_string()
        {
            for value in values {
                write!(line, " `{}`: {}", value["const"].as_str().unwrap(), text(value)).unwrap();
            }
        } else if let Some((_, Some(values))) = values {
            let names: Vec<_> = values.iter().filter_map(Value::as_str).map(|name| format!("`{name}`")).collect();
            write!(line, " {}.", names.join(", ")).unwrap();
        }
        let default = match &field["default"] {
            Value::Null | Value::Object(_) => String::new(),
            Value::Array(items) if items.is_empty() => String::new(),
            Value::String(text) if text.is_empty() => String::new(),
            default => format!("`{default}`"),
        };
        writeln!(out, "| `{name}` | {default} | {} |", line.trim().replace('|', "\\|")).unwrap();
    }
}

#[test]
fn every_field_is_documented() {
    const MARK: &str = "## Every field\n";
    let schema = Definition::schema();
    let mut out = String::from(MARK);
    out.push_str("\nA test writes this list from the types. Lifetimes and windows are seconds.\n");
    let head = "\n| key | default | |\n| --- | --- | --- |\n";
    write!(out, "\n### At the top\n{head}").unwrap();
    fields(&schema, &schema, &mut out);
    for (title, name) in [
        ("`[variables.NAME]`", "Variable"),
        ("`[authorize]`", "Authorize"),
        ("`[callback]`", "Callback"),
        ("`[token]`, `[refresh]`, `[second]`, `[revoke]`, `[introspect]`", "Call"),
        ("`sign`", "Sign"),
        ("`[answer]`", "AnswerShape"),
        ("`answer.success`, `answer.limited`, `api.expired_in`, `api.limits.told_in`", "Mark"),
        ("`[assertion]`", "AssertionTerms"),
        ("`[exchange]`", "ExchangeTerms"),
        ("`[api]`", "ApiFacts"),
        ("`[api.limits]`", "Limits"),
    ] {
        write!(out, "\n### {title}\n{head}").unwrap();
        fields(&schema, &schema["$defs"][name], &mut out);
    }
    for style in schema["$defs"]["Paging"]["oneOf"].as_array().unwrap() {
        let (name, about) = (&style["properties"]["style"]["const"], &style["description"]);
        write!(out, "\n### `[api.paging]` with `style = {name}`\n\n{}\n{head}", about.as_str().unwrap()).unwrap();
        fields(&schema, style, &mut out);
    }
    // Every table of the schema is in that list, and every value of a choice.
    for (name, table) in schema["$defs"].as_object().unwrap() {
        let keys = table["properties"].as_object().into_iter().flatten().map(|(key, _)| key.clone());
        let choices =
            table["oneOf"].as_array().into_iter().flatten().filter_map(|it| Some(it["const"].as_str()?.to_owned()));
        for word in keys.chain(choices) {
            assert!(out.contains(&format!("`{word}`")), "{name}.{word} is not documented");
        }
    }
    let file = folder("providers/FORMAT.md");
    let text = fs::read_to_string(&file).unwrap();
    let written = text.split(MARK).next().unwrap();
    let mut stale = Vec::new();
    is_current(&file, &format!("{written}{out}"), &mut stale);
    assert!(stale.is_empty(), "UPDATE=1 writes it anew");

    // The table of needs names fields that there are, and links to sections that there are.
    for row in written.lines().filter(|line| line.starts_with("| ")).skip(2) {
        for link in row.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let anchor = |heading: &str| heading.to_lowercase().replace(' ', "-").replace([',', '`'], "");
            let found =
                written.lines().filter_map(|line| line.strip_prefix("### ")).any(|heading| anchor(heading) == link);
            assert!(found, "{link}");
        }
        let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for path in last.split('`').skip(1).step_by(2).filter(|path| !path.starts_with('{')) {
            let word = path.split(' ').next().unwrap().rsplit('.').next().unwrap();
            assert!(out.contains(&format!("| `{word}` |")), "{path}");
        }
    }
}
