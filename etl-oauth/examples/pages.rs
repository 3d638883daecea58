//! Writes every page with sample data into a folder, to be looked at in a browser:
//! `cargo run -p etl-oauth --example pages -- /tmp/pages`
#![allow(clippy::print_stdout, reason = "a program")]

use std::error::Error;
use std::path::PathBuf;

use etl_oauth::guard::Concern;
use etl_oauth::job::gumroad;
use etl_oauth::pages::{
    Account, Base, Begin, Confirm, Counts, Device, Done, Enable, JobResult, Login, Page, Problem, Ran, RenewalRow,
    RunRow, Start, State, Status, StatusPage, Store, Verdict,
};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use token_keeper::token::Subject;

const PROVIDER: &str = "Gumroad";

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("usage: pages FOLDER")?);
    std::fs::create_dir_all(&folder)?;
    for (name, page) in pages()? {
        let path = folder.join(name).with_extension("html");
        std::fs::write(&path, page.html())?;
        println!("{}", path.display());
    }
    Ok(())
}

fn pages() -> Result<Vec<(&'static str, Page)>, Box<dyn Error>> {
    let base = &Base::new(&"https://gateway.example.com/function/etl-oauth".parse()?).operated(true);
    let authorize_url = &"https://gumroad.com/oauth/authorize".parse()?;
    let now = Timestamp::now();
    let ago = |minutes| now - SignedDuration::from_mins(minutes);

    let enable = || Enable {
        base,
        provider: PROVIDER,
        scopes: &["view_sales", "view_profile"],
        registered: etl_oauth::pages::Registered::Uri,
        register: "https://gateway.example.com/function/etl-oauth/oauth2/callback",
        console: None,
        authorize_url,
        connection: None,
        account: None,
        state: State::Disabled,
        open: false,
        csrf: "sample",
    };
    let done = Done {
        base,
        provider: PROVIDER,
        who: Some("seller@example.com"),
        account: None,
        granted: &["view_sales", "view_profile"],
        wanted: &["view_sales", "view_profile"],
        expires_at: Some(ago(-120)),
        refresh_token: true,
        remedy: None,
        unsaved: None,
        now,
    };
    let poor = Done {
        granted: &["view_profile"],
        refresh_token: false,
        remedy: Some("Remove this app in your account's settings, and connect again."),
        unsaved: Some("PUT /system/secrets of the gateway: 503"),
        ..done.clone()
    };
    let concerns = [
        Concern::OtherOwner { from: Subject::new("7", Some("ada")), to: Some(Subject::new("8", Some("bob"))) },
        Concern::FewerScopes(vec!["view_sales".into()]),
        Concern::NoRefreshToken,
    ];
    let confirm = Confirm { base, provider: PROVIDER, concerns: &concerns, grant: "sealed", csrf: "sample" };
    let refused = Problem {
        error: "access_denied".into(),
        message: "Gumroad says that you declined. Nothing was changed or stored.".into(),
        next: "If that was a mistake, connect again and choose Allow.".into(),
        reason: None,
        status: StatusCode::FORBIDDEN,
        title: "You declined".into(),
        link: Some(("/enable", "Try again".into())),
    };
    let outcome = gumroad::sum_up(&sales(now), now).outcome()?;
    let healthy = status(store(true), vec![healthy(now)], now);
    let ill = status(store(false), vec![ill(now), fresh()], now);
    let degraded = status(store(true), vec![degraded(now)], now);
    let none = status(store(true), vec![fresh()], now);
    let status = |status| StatusPage {
        base,
        provider: PROVIDER,
        job: "gumroad",
        status,
        search: Default::default(),
        authorize_url: Some(authorize_url),
        unattended: false,
        notice: None,
        remedy: Some("Remove this app in your account's settings, and connect again."),
        csrf: "sample",
        now,
    };

    let begin = Begin {
        base,
        provider: PROVIDER,
        scopes: &["view_sales"],
        connection: None,
        account: None,
        device: true,
        state: State::Disabled,
        open: false,
        csrf: "sample",
    };
    let (uri, whole) =
        ("https://gumroad.com/device".parse()?, "https://gumroad.com/device?user_code=WDJB-MJHT".parse()?);
    let device = Device {
        base,
        provider: PROVIDER,
        account: None,
        user_code: "WDJB-MJHT",
        verification_uri: &uri,
        verification_uri_complete: Some(&whole),
        ends_at: ago(-9),
        failure: None,
        now,
    };

    Ok(vec![
        ("login", Page::from(&Login { base, next: "/status", problem: None })),
        (
            "login-wrong",
            Page::from(&Login { base, next: "/status", problem: Some("That is not the operator's secret.") }),
        ),
        ("begin", Page::from(&begin)),
        ("device", Page::from(&device)),
        ("device-failed", Page::from(&Device { failure: Some("the person declined"), ..device })),
        ("start", Page::from(&Start { base, provider: PROVIDER, state: State::Disabled, operated: true })),
        ("start-enabled", Page::from(&Start { base, provider: PROVIDER, state: State::Enabled, operated: true })),
        ("enable", Page::from(&enable())),
        (
            "enable-open",
            Page::from(&Enable { open: true, account: Some("shop"), state: State::NeedsAuthorisation, ..enable() }),
        ),
        ("done", Page::from(&done)),
        ("done-poor", Page::from(&poor)),
        ("problem", refused.page(base)),
        ("confirm", Page::from(&confirm)),
        ("ran", Page::from(&Ran { base, at: ago(0), now })),
        ("result", Page::from(&JobResult { base, provider: PROVIDER, html: &outcome.html, at: ago(0), now })),
        ("status", Page::from(&status(&healthy))),
        ("status-degraded", Page::from(&status(&degraded))),
        ("status-none", Page::from(&StatusPage { notice: Some("the tokens are deleted here"), ..status(&none) })),
        ("status-ill", Page::from(&status(&ill))),
    ])
}

fn sales(now: Timestamp) -> Vec<Value> {
    let sale = |hours: i64, price: i64, symbol: &str, shown: &str, country: Option<&str>, refunded: bool| {
        json!({"created_at": (now - SignedDuration::from_hours(hours)).to_string(), "product_name": "Pencil Icon PSD",
            "price": price, "currency_symbol": symbol, "formatted_total_price": shown, "country": country,
            "refunded": refunded})
    };
    vec![
        sale(2, 2499, "$", "$24.99", Some("United States"), false),
        sale(20, 2499, "$", "$24.99", Some("United States"), false),
        sale(30, 1085, "€", "€10", Some("Germany"), false),
        sale(31, 1085, "€", "€10", Some("Germany"), false),
        sale(32, 999, "$", "$9.99", Some("Germany"), false),
        sale(60, 1015, "¥", "¥1,500", Some("Japan"), false),
        sale(90, 500, "$", "$5", None, false),
        sale(91, 2499, "$", "$24.99", Some("United States"), true),
        sale(200, 2499, "$", "$24.99", Some("Chile"), false),
        sale(210, 1085, "€", "€10", Some("France"), false),
    ]
}

fn status(store: Store, accounts: Vec<Account>, now: Timestamp) -> Status {
    let verdict = Verdict::of(&store, &accounts, false, now);
    let counts = Counts::of(accounts.iter().map(|account| account.state));
    let next_cursor = (accounts.len() > 1).then(|| "default/shop".to_owned());
    Status { verdict, provider: Some("gumroad".into()), store, counts, accounts, next_cursor }
}

fn store(ok: bool) -> Store {
    Store { kind: "gateway".into(), ok }
}

fn healthy(now: Timestamp) -> Account {
    let renewals: Vec<_> = (0..20)
        .map(|nth| renewal(now, 25 + nth * 115, if nth == 7 { "network_not_sent" } else { "renewed" }))
        .collect();
    let runs: Vec<_> =
        (0..38).map(|nth| run(now, 10 + nth * 60, if nth == 13 { "provider_unavailable" } else { "ok" })).collect();
    Account {
        connection: "default".into(),
        account: "default".into(),
        who: Some("seller@example.com".into()),
        state: State::Enabled,
        generation: 412,
        authorisations: 1,
        scope: Some("view_sales view_profile".into()),
        wanted_scope: Some("view_sales view_profile".into()),
        expires_at: Some(now + SignedDuration::from_mins(95)),
        refresh_token: true,
        refresh_expires_at: Some(now + SignedDuration::from_hours(24 * 89)),
        last_renewal: renewals.first().cloned(),
        next_renewal_at: Some(now + SignedDuration::from_mins(94)),
        last_run: runs.first().cloned(),
        unsaved: false,
        error: None,
        renewals,
        runs,
        claims: None,
        device: None,
    }
}

fn degraded(now: Timestamp) -> Account {
    Account {
        state: State::Degraded,
        refresh_token: false,
        refresh_expires_at: None,
        expires_at: None,
        last_renewal: Some(renewal(now, 1, "provider_unavailable")),
        next_renewal_at: Some(now + SignedDuration::from_secs(15)),
        error: Some(Problem {
            error: "provider_unavailable".into(),
            message: "the provider answered 503".into(),
            next: "Nothing, unless it lasts: the provider has an outage.".into(),
            reason: None,
            status: StatusCode::OK,
            title: "provider_unavailable".into(),
            link: None,
        }),
        renewals: vec![],
        runs: vec![],
        last_run: None,
        ..healthy(now)
    }
}

fn ill(now: Timestamp) -> Account {
    Account {
        connection: "default".into(),
        account: "shop".into(),
        state: State::NeedsAuthorisation,
        wanted_scope: Some("view_sales view_profile edit_products".into()),
        expires_at: Some(now - SignedDuration::from_mins(42)),
        refresh_token: false,
        refresh_expires_at: None,
        last_renewal: Some(renewal(now, 41, "invalid_grant")),
        next_renewal_at: None,
        last_run: Some(run(now, 10, "needs_authorisation")),
        error: Some(Problem {
            error: "invalid_grant".into(),
            message: "Gumroad refused the refresh token.".into(),
            next: "Authorise the account again; nothing else helps.".into(),
            reason: None,
            status: StatusCode::CONFLICT,
            title: "Must be authorised again".into(),
            link: None,
        }),
        renewals: vec![renewal(now, 41, "invalid_grant"), renewal(now, 161, "renewed"), renewal(now, 281, "renewed")],
        runs: vec![run(now, 10, "needs_authorisation"), run(now, 70, "ok"), run(now, 130, "ok")],
        ..healthy(now)
    }
}

fn fresh() -> Account {
    Account {
        connection: "default".into(),
        account: "default".into(),
        who: None,
        state: State::Disabled,
        generation: 0,
        authorisations: 0,
        scope: None,
        wanted_scope: Some("view_sales".into()),
        expires_at: None,
        refresh_token: false,
        refresh_expires_at: None,
        last_renewal: None,
        next_renewal_at: None,
        last_run: None,
        unsaved: false,
        error: None,
        renewals: vec![],
        runs: vec![],
        claims: None,
        device: None,
    }
}

fn renewal(now: Timestamp, minutes: i64, outcome: &str) -> RenewalRow {
    RenewalRow { at: now - SignedDuration::from_mins(minutes), outcome: outcome.into() }
}

fn run(now: Timestamp, minutes: i64, outcome: &str) -> RunRow {
    RunRow { at: now - SignedDuration::from_mins(minutes), outcome: outcome.into(), duration_ms: 412 }
}
