//! What holds for every page, on pages that are filled with one text in every field.

mod words;

use axum::response::IntoResponse;
use jiff::Timestamp;

use super::*;
use crate::guard::Concern;
use token_keeper::token::Subject;

const NOW: &str = "2026-11-21T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn account(state: State, text: &str) -> Account {
    let renewal = RenewalRow { at: "2026-11-21T11:00:00Z".parse().unwrap(), outcome: text.into() };
    let run = RunRow { at: "2026-11-21T11:30:00Z".parse().unwrap(), outcome: text.into(), duration_ms: 412 };
    Account {
        connection: "default".into(),
        account: text.into(),
        who: Some(text.into()),
        state,
        generation: 7,
        scope: Some(text.into()),
        wanted_scope: Some(format!("{text} more{text}")),
        expires_at: Some("2026-11-21T13:30:00Z".parse().unwrap()),
        refresh_token: true,
        refresh_expires_at: None,
        last_renewal: Some(renewal.clone()),
        next_renewal_at: Some("2026-11-21T13:29:00Z".parse().unwrap()),
        last_run: Some(run.clone()),
        unsaved: false,
        error: Some(problem(text)),
        renewals: vec![renewal],
        runs: vec![run],
        authorisations: 1,
        claims: Some(serde_json::Map::from_iter([(text.to_owned(), text.into())])),
        device: Some(Invitation {
            user_code: text.into(),
            verification_uri: "https://provider.example/device".parse().unwrap(),
            verification_uri_complete: None,
            ends_at: now(),
            failure: Some(text.into()),
        }),
    }
}

fn problem(text: &str) -> Problem {
    Problem {
        error: text.into(),
        message: text.into(),
        next: text.into(),
        reason: None,
        status: StatusCode::BAD_GATEWAY,
        title: text.into(),
        link: Some(("/enable", text.into())),
    }
}

const STATES: [State; 4] = [State::Disabled, State::Enabled, State::Degraded, State::NeedsAuthorisation];

/// Every page in every state, with `text` in every field that takes words.
fn every_page(text: &str) -> Vec<Page> {
    let base = Base::new(&"https://gateway.example/function/etl-oauth/".parse().unwrap());
    let authorize_url: Url = "https://provider.example/oauth/authorize".parse().unwrap();
    let (base, authorize_url) = (&base, &authorize_url);
    let scopes = &[text][..];
    let more = format!("more{text}");
    let mut pages = vec![
        Page::from(&Ran { base, at: now(), now: now() }),
        Page::from(&JobResult { base, provider: text, html: "<h1>Result</h1>", at: now(), now: now() }),
        problem(text).page(base),
    ];
    let owner = |id: &str| Subject { id: format!("{id}{text}"), name: Some(text.into()), email: None };
    let concerns = [
        Concern::OtherOwner { from: owner("1"), to: Some(owner("2")) },
        Concern::OtherOwner { from: owner("1"), to: None },
        Concern::FewerScopes(vec![text.into()]),
        Concern::NoRefreshToken,
    ];
    pages.push(Page::from(&Confirm { base, provider: text, concerns: &concerns, grant: text, csrf: text }));
    for state in STATES {
        pages.push(Page::from(&Start { base, provider: text, state, operated: true }));
        let account_name = Some(text);
        pages.push(Page::from(&Enable {
            base,
            provider: text,
            scopes,
            registered: Registered::Uri,
            register: text,
            console: None,
            authorize_url,
            connection: None,
            account: account_name,
            state,
            open: true,
            csrf: text,
        }));
        let store = Store { kind: text.into(), ok: state == State::Enabled };
        let accounts = vec![account(state, text), account(State::Enabled, text)];
        let verdict = Verdict::of(&store, &accounts, false, now());
        let counts = Counts::of(accounts.iter().map(|account| account.state));
        let next_cursor = Some("default/shop".to_owned());
        let status = Status { verdict, provider: Some(text.into()), store, counts, accounts, next_cursor };
        pages.push(Page::from(&StatusPage {
            base,
            provider: text,
            job: text,
            status: &status,
            search: Default::default(),
            authorize_url: Some(authorize_url),
            unattended: state == State::Degraded,
            notice: Some(text),
            remedy: Some(text),
            csrf: text,
            now: now(),
        }));
    }
    for (device, failure) in [(true, None), (false, Some(text))] {
        let (account, state) = (Some(text), State::Disabled);
        pages.push(Page::from(&Begin {
            connection: None,
            base,
            provider: text,
            scopes,
            account,
            device,
            state,
            open: device,
            csrf: text,
        }));
        pages.push(Page::from(&Device {
            base,
            provider: text,
            account,
            user_code: text,
            verification_uri: authorize_url,
            verification_uri_complete: Some(authorize_url),
            ends_at: now(),
            failure,
            now: now(),
        }));
    }
    for (refresh_token, expires_at) in [(true, None), (false, None), (false, Some(now()))] {
        pages.push(Page::from(&Done {
            base,
            provider: text,
            who: Some(text),
            account: Some(text),
            granted: scopes,
            wanted: &[text, &more],
            expires_at,
            refresh_token,
            remedy: Some(text),
            unsaved: (!refresh_token).then_some(text),
            now: now(),
        }));
    }
    pages
}

#[test]
fn nothing_that_is_shown_becomes_markup() {
    let payload = "\"'><script>alert(1)</script><img/src=x/onerror=alert(2)>&";
    for (page, silent) in every_page(payload).iter().zip(every_page("x")) {
        // The one script is ours, and named by its hash.
        let html = page.html().replace(&format!("<script>{SCRIPT}</script>"), "");
        assert!(!html.contains("<script"), "{html}");
        assert!(!html.contains("<img"), "{html}");
        // Escaped, a payload adds no tag and closes no attribute: each page has as many of them as with a plain word.
        for mark in ["<", ">", "\""] {
            let silent = silent.html().replace(&format!("<script>{SCRIPT}</script>"), "");
            assert_eq!(html.matches(mark).count(), silent.matches(mark).count(), "{mark} in {html}");
        }
    }
}

#[test]
fn long_words_do_not_make_long_pages() {
    let long = "x".repeat(10_000);
    for page in every_page(&long) {
        // Whole are only what must be: the values of forms, and the redirect URI to copy. They are ours, and short.
        let whole = [format!("value=\"{long}\""), format!("<code class=\"copy\">{long}</code>")];
        let shown = whole.iter().fold(page.html().to_owned(), |html, whole| html.replace(whole, ""));
        assert!(!shown.contains(&"x".repeat(crate::format::LONGEST + 1)), "{shown}");
    }
}

#[test]
fn every_page_is_a_document_with_one_heading_and_landmarks() {
    for page in every_page("word") {
        let html = page.html();
        assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"), "{html}");
        for (mark, times) in [("<title>", 1), ("<h1", 1), ("<main>", 1), ("<header>", 1), ("name=\"viewport\"", 1)] {
            assert_eq!(html.matches(mark).count(), times, "{mark} in {html}");
        }
    }
}

#[test]
fn links_and_forms_are_absolute() {
    for page in every_page("word") {
        for attribute in ["href=\"", "action=\""] {
            for target in page.html().split(attribute).skip(1) {
                let ours = target.starts_with("https://gateway.example/function/etl-oauth/");
                // Where a device is authorised, the provider says.
                let theirs = target.starts_with("https://provider.example/");
                // Within the page.
                let here = target.starts_with('#');
                assert!(ours || theirs || here || target.starts_with("data:image/"), "{}", &target[..40]);
            }
        }
    }
}

#[test]
fn every_form_carries_the_csrf_token() {
    for page in every_page("word") {
        let html = page.html();
        assert_eq!(html.matches("<form method=\"post\"").count(), html.matches("name=\"csrf\" value=\"word\"").count());
    }
}

#[test]
fn the_policy_names_the_style_by_the_hash_of_what_stands_in_the_page() {
    for page in every_page("word") {
        let html = page.html();
        let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
        let hash = BASE64_STANDARD.encode(digest(&SHA256, style.as_bytes()));
        assert!(page.policy().contains(&format!("style-src 'sha256-{hash}';")), "{}", page.policy());
        assert!(!html.contains("style=\""), "an attribute that the policy would refuse");
    }
}

#[test]
fn headers_keep_a_page_out_of_caches_frames_and_referrers() {
    for page in every_page("word") {
        let response = page.into_response();
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("pragma"), "no-cache");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("x-content-type-options"), "nosniff");
        let policy = header("content-security-policy");
        let script = format!("script-src {}; ", source(SCRIPT));
        let rest = policy.strip_prefix("default-src 'none'; ").unwrap();
        assert!(rest.strip_prefix(&*script).unwrap_or(rest).starts_with("style-src 'sha256-"), "{policy}");
        assert!(policy.ends_with("base-uri 'none'; frame-ancestors 'none'"), "{policy}");
    }
}

#[test]
fn only_pages_that_lead_to_the_provider_name_it_in_their_policy() {
    let base = Base::new(&"http://127.0.0.1:8080/function/etl-oauth".parse().unwrap());
    let authorize_url: Url = "http://127.0.0.1:9000/oauth/authorize?x=1".parse().unwrap();
    let enable = Page::from(&Enable {
        base: &base,
        provider: "Gumroad",
        scopes: &[],
        registered: Registered::Uri,
        register: "http://127.0.0.1:8080/function/etl-oauth/oauth2/callback",
        console: None,
        authorize_url: &authorize_url,
        connection: None,
        account: None,
        state: State::Disabled,
        open: false,
        csrf: "t",
    });
    let policy = enable.policy();
    assert!(policy.contains("; form-action 'self' http://127.0.0.1:9000 http://127.0.0.1:*; "), "{policy}");
    let ran = Page::from(&Ran { base: &base, at: now(), now: now() });
    assert!(ran.policy().contains("; form-action 'self'; "), "{}", ran.policy());
}
