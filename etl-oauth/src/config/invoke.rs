//! Who may call the job.

use std::time::Duration;

use url::Url;

use super::{default_gateway, endpoint, parse::Strings};
use crate::guard::{IamRules, InvokeAuth, JwtRules};
use token_keeper::secrets::Secrets;

/// The file in which Kubernetes gives a pod its namespace.
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Reads `invoke_auth` and what belongs to it.
pub(super) fn invoke(
    strings: &mut Strings<'_>,
    secrets: &Secrets,
    public_url: Option<&Url>,
    gateway_url: Option<&Url>,
) -> InvokeAuth {
    let kinds = ["none", "secret", "hmac", "jwt", "openfaas", "public_key"];
    let kind = strings.choice("invoke_auth", &kinds.map(|kind| (kind, kind)));
    let leeway = strings.duration("invoke_leeway").unwrap_or(Duration::from_secs(60));
    let tolerance = strings.duration("invoke_tolerance").unwrap_or(Duration::from_secs(300));
    let jwks_url = strings.parsed("invoke_jwks_url", endpoint);
    let issuer = strings.text("invoke_issuer");
    let audience = strings.text("invoke_audience");
    let claim = strings.text("invoke_claim").unwrap_or_else(|| "etl_oauth".into());
    let auth = match kind.unwrap_or("none") {
        "secret" => InvokeAuth::Secret,
        "hmac" => InvokeAuth::Hmac(tolerance),
        "public_key" => InvokeAuth::PublicKey(tolerance),
        "jwt" => {
            if jwks_url.is_none() {
                strings.parsed("invoke_issuer", endpoint);
            }
            let mut needed = |name: &str, value: Option<String>, what: &str| {
                value.unwrap_or_else(|| {
                    strings.mistake(format!("{name} is not set: invoke_auth=jwt needs {what}"));
                    String::new()
                })
            };
            let issuer = needed("invoke_issuer", issuer, "the issuer of the tokens, as their `iss` has it");
            let audience = needed("invoke_audience", audience, "what stands in their `aud`");
            InvokeAuth::Jwt(JwtRules { issuer, audience, jwks_url, leeway, claim })
        }
        "openfaas" => InvokeAuth::OpenFaas(IamRules {
            gateway_url: gateway_url.cloned().unwrap_or_else(default_gateway),
            function: function(strings, public_url),
            leeway,
            claim,
        }),
        _ => InvokeAuth::None,
    };
    if let Some(line) = auth.mistake(secrets) {
        strings.mistake(line);
    }
    auth
}

/// `namespace:name` of this function: from the environment that OpenFaaS Pro sets, else from the public URL and the pod.
fn function(strings: &mut Strings<'_>, public_url: Option<&Url>) -> String {
    let last = public_url.and_then(|url| url.path_segments()?.next_back().map(str::to_owned)).unwrap_or_default();
    let (name, namespace) = match last.split_once('.') {
        Some((name, namespace)) => (name.to_owned(), Some(namespace.to_owned())),
        None => (last, None),
    };
    let name = strings.text("OPENFAAS_NAME").unwrap_or(name);
    let pod = || std::fs::read_to_string(NAMESPACE).ok().map(|text| text.trim().to_owned());
    let namespace = strings.text("OPENFAAS_NAMESPACE").or(namespace).or_else(pod);
    format!("{}:{name}", namespace.as_deref().unwrap_or("openfaas-fn"))
}
