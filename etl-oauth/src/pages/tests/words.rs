//! What single pages say.

use super::*;

#[test]
fn a_missing_refresh_token_is_said_loudly_with_the_remedy() {
    let base = Base::new(&"https://gateway.example/function/etl-oauth".parse().unwrap());
    let mut done = Done {
        base: &base,
        provider: "Google",
        who: None,
        account: None,
        granted: &["a"],
        wanted: &["a"],
        expires_at: Some("2026-11-21T13:00:00Z".parse().unwrap()),
        refresh_token: false,
        remedy: Some("Ask for access_type=offline."),
        unsaved: None,
        now: now(),
    };
    let html = Page::from(&done).html;
    assert!(html.contains("There is no refresh token"), "{html}");
    assert!(html.contains("Ask for access_type=offline."), "{html}");
    assert!(html.contains("The function stops in 60 minutes"), "{html}");
    assert!(!html.contains("Fewer permissions"), "{html}");
    done.refresh_token = true;
    assert!(!Page::from(&done).html.contains("There is no refresh token"));
}

#[test]
fn the_status_says_so_too_as_long_as_the_token_lives() {
    for (state, refresh_token, said) in [
        (State::Enabled, false, true),
        (State::Degraded, false, true),
        (State::Enabled, true, false),
        (State::NeedsAuthorisation, false, false),
    ] {
        let account = Account { refresh_token, ..account(state, "word") };
        let (store, accounts) = (Store { kind: "file".into(), ok: true }, vec![account]);
        let verdict = Verdict::of(&store, &accounts, false, now());
        let counts = Counts::of(accounts.iter().map(|account| account.state));
        let provider = Some("google".into());
        let status = Status { verdict, provider, store, counts, accounts, next_cursor: None };
        let page = StatusPage {
            base: &Base::new(&"https://gateway.example/function/etl-oauth".parse().unwrap()),
            provider: "Google",
            job: "none",
            status: &status,
            search: Default::default(),
            authorize_url: None,
            unattended: false,
            notice: None,
            remedy: Some("Ask for access_type=offline."),
            csrf: "t",
            now: now(),
        };
        let html = Page::from(&page).html;
        assert_eq!(html.contains("There is no refresh token"), said, "{state:?}");
        assert_eq!(html.contains("Ask for access_type=offline."), said, "{state:?}");
    }
}

#[test]
fn a_token_that_is_not_saved_is_no_success() {
    let base = Base::new(&"https://gateway.example/function/etl-oauth".parse().unwrap());
    let mut done = Done {
        base: &base,
        provider: "Gumroad",
        who: None,
        account: None,
        granted: &["view_sales"],
        wanted: &["view_sales", "view_profile"],
        expires_at: None,
        refresh_token: true,
        remedy: None,
        unsaved: Some("the gateway answered 503"),
        now: now(),
    };
    let html = Page::from(&done).html;
    assert!(html.contains("not saved yet"), "{html}");
    assert!(!html.contains("The token is saved"), "{html}");
    assert!(html.contains("The gateway answered 503."), "{html}");
    assert!(html.contains("Fewer permissions") && html.contains("<code>view_profile</code>"), "{html}");
    done.unsaved = None;
    let html = Page::from(&done).html;
    assert!(html.contains("The token is saved") && !html.contains("not saved yet"), "{html}");
}

#[test]
fn a_problem_is_the_same_for_a_browser_and_a_machine() {
    let base = Base::new(&"https://gateway.example/function/etl-oauth".parse().unwrap());
    let problem = problem("word");
    let page = problem.page(&base);
    assert_eq!(page.status, StatusCode::BAD_GATEWAY);
    assert!(page.html.contains("href=\"https://gateway.example/function/etl-oauth/enable\""), "{}", page.html);
    let json = problem.json();
    assert_eq!(json.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(json.headers()["content-type"], "application/json");
    assert_eq!(serde_json::json!(problem).to_string(), r#"{"error":"word","message":"word","next":"word"}"#);
}

#[test]
fn the_buttons_are_those_that_make_sense_in_the_state() {
    for (page, state) in every_page("word").iter().filter(|page| page.html.contains("Status of")).zip(STATES) {
        let first = page.html.split("<section").nth(1).unwrap();
        let has = |path: &str| first.contains(&format!("function/etl-oauth{path}\""));
        assert!(has("/enable"), "{state:?}");
        assert_eq!(has("/"), matches!(state, State::Enabled | State::Degraded), "{state:?}");
        assert_eq!(has("/refresh"), matches!(state, State::Enabled | State::Degraded), "{state:?}");
        assert_eq!(has("/revoke"), state != State::Disabled, "{state:?}");
    }
}

#[test]
fn o8_the_first_thing_on_the_status_page_is_the_verdict() {
    for (page, state) in every_page("word").iter().filter(|page| page.html.contains("Status of")).zip(STATES) {
        let after_notice = page.html.split("role=\"status\"").nth(1).unwrap();
        let first = after_notice.split("<div class=\"note ").nth(1).unwrap();
        assert!(
            first.starts_with("bad\"><p><strong>") || first.starts_with("warn\"><p><strong>"),
            "{state:?}: {first}"
        );
        assert!(!page.html.contains("keeps it alive"), "{state:?}");
    }
}

#[test]
fn o11_numbers_of_neighbouring_columns_do_not_touch_on_a_narrow_page() {
    let rule = STYLE.split(".number {").nth(1).unwrap().split('}').next().unwrap();
    let padding = rule.split(';').find_map(|line| line.trim().strip_prefix("padding:")).unwrap();
    let sides: Vec<&str> = padding.split_whitespace().collect();
    assert!(sides.len() == 4 && sides[3] != "0", "the cell's left side keeps its distance: {padding}");
}

#[test]
fn o7_the_enable_page_says_what_this_provider_wants_registered() {
    let base = Base::new(&"https://gateway.example/function/strava".parse().unwrap());
    let authorize_url: Url = "https://provider.example/oauth/authorize".parse().unwrap();
    for (registered, register, said) in [
        (Registered::Uri, "https://gateway.example/function/strava/oauth2/callback", "Register this redirect URI"),
        (Registered::Domain, "gateway.example", "Register this callback domain"),
        (Registered::Origin, "https://gateway.example", "Register this origin"),
    ] {
        let html = Page::from(&Enable {
            base: &base,
            provider: "Strava",
            scopes: &[],
            registered,
            register,
            console: None,
            authorize_url: &authorize_url,
            connection: None,
            account: None,
            state: State::Disabled,
            open: false,
            csrf: "t",
        })
        .html;
        assert!(html.contains(said), "{html}");
        assert!(html.contains(&format!("<code class=\"copy\">{register}</code>")), "{html}");
        assert_eq!(html.contains("redirect URI"), registered == Registered::Uri, "{html}");
    }
}
