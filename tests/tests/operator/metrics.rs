//! What happened, as the metrics and the log tell it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::Client;
use serde_json::json;
use tests::Stage;

use crate::PROGRAM;

/// What is shown only where the operator has configured something that ends.
const OF_CONFIGURED_ENDS: [&str; 2] =
    ["etl_oauth_client_certificate_expiry_timestamp_seconds", "etl_oauth_client_secret_expiry_timestamp_seconds"];

/// A scrape: the value of each series, by its name and some of its labels.
struct Scrape(String);

impl Scrape {
    async fn of(stage: &Stage) -> Self {
        Self(stage.metrics().await)
    }

    fn get(&self, series: &str) -> Option<f64> {
        let (name, labels) = labels(series);
        let found = self.0.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
            let (found, value) = line.rsplit_once(' ')?;
            let (of, with) = self::labels(found);
            (of == name && labels.is_subset(&with)).then_some(value)
        });
        found.map(|value| value.parse().unwrap())
    }

    fn at_least(&self, series: &str, least: f64) {
        assert!(self.get(series).is_some_and(|value| value >= least), "{series}\n{}", self.0);
    }

    fn is(&self, series: &str, value: f64) {
        assert_eq!(self.get(series), Some(value), "{series}\n{}", self.0);
    }

    /// The families, and what is said of them.
    fn families(&self) -> BTreeMap<&str, &str> {
        self.0.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')).collect()
    }
}

async fn refresh(stage: &Stage) -> u16 {
    let request = Client::new().post(stage.url("/refresh")).bearer_auth(stage.secret("etl-oauth-operator"));
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn the_metrics_tell_what_happened_and_the_dashboard_and_the_alerts_ask_for_none_that_are_not_there() {
    let stage = Stage::start(PROGRAM).await;
    let state = |state: &str| format!("etl_oauth_account_state{{account=\"default\",state=\"{state}\"}}");
    let before = Scrape::of(&stage).await;
    before.is(&state("disabled"), 1.0);
    before.is(&state("enabled"), 0.0);

    stage.authorise().await;
    assert_eq!(stage.run().await.0, 200);
    assert_eq!(refresh(&stage).await, 200);
    stage.provider().set_faults(&json!({"status": {"status": 503}})).unwrap();
    assert_eq!(refresh(&stage).await, 503);

    let now = Scrape::of(&stage).await;
    now.is(&state("disabled"), 0.0);
    now.is(&state("degraded"), 1.0);
    now.is("etl_oauth_state_changes_total{account=\"default\",to=\"degraded\"}", 1.0);
    now.is("etl_oauth_renewals_total{connection=\"default\",outcome=\"renewed\"}", 1.0);
    now.is("etl_oauth_renewals_total{outcome=\"provider_unavailable\"}", 1.0);
    now.is("etl_oauth_renewals_total{outcome=\"invalid_grant\"}", 0.0);
    now.is("etl_oauth_renewal_duration_seconds_count", 2.0);
    now.at_least("etl_oauth_store_writes_total{store=\"gateway\",outcome=\"ok\"}", 2.0);
    now.is("etl_oauth_store_writes_total{store=\"gateway\",outcome=\"error\"}", 0.0);
    now.is("etl_oauth_job_runs_total{job=\"gumroad\",outcome=\"ok\"}", 1.0);
    now.is("etl_oauth_job_duration_seconds_count{job=\"gumroad\"}", 1.0);
    now.is("etl_oauth_provider_requests_total{endpoint=\"token\",code=\"200\"}", 2.0);
    now.is("etl_oauth_provider_requests_total{endpoint=\"token\",code=\"503\"}", 1.0);
    now.at_least("etl_oauth_provider_requests_total{endpoint=\"api\",code=\"200\"}", 1.0);
    let left = now.get("etl_oauth_token_expiry_timestamp_seconds{account=\"default\"}").unwrap()
        - SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((3400.0..=3601.0).contains(&left), "{left}");

    let families = now.families();
    for (name, help) in &families {
        assert!(!name.starts_with("etl_oauth_") || help.len() > 20, "{name} is not explained");
    }
    for file in ["alerts.yaml", "grafana-dashboard.json"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)).unwrap();
        let asked = names(&text);
        assert!(asked.len() > 3, "{file}: {asked:?}");
        for name in asked {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let is_there = families.contains_key(family) || OF_CONFIGURED_ENDS.contains(&family);
            assert!(is_there, "{file} asks for {name}");
        }
    }
    stage.stop().await;
}

/// The name of a series, and its labels.
fn labels(series: &str) -> (&str, BTreeSet<&str>) {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    (name, labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).collect())
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("etl_oauth_") || word.starts_with("http_request")).collect()
}
