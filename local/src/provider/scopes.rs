//! The scopes of the sandbox.

use maud::{Markup, html};

use super::grants::Refused;

/// The scopes, and what each allows.
pub(super) const SCOPES: [(&str, &str); 11] = [
    ("view_sales", "See your sales"),
    ("view_profile", "See your name and e-mail address"),
    ("edit_products", "Create and change your products"),
    ("view_public", "See your public profile and products"),
    // Of the vendors' APIs, which require none.
    ("read", "See your public profile (Strava)"),
    ("activity:read", "See your activities (Strava)"),
    ("tweet.read", "See posts (X)"),
    ("users.read", "See your profile (X)"),
    ("offline.access", "Stay signed in (X)"),
    ("api", "Use the API (Salesforce)"),
    ("refresh_token", "Stay signed in (Salesforce)"),
];

/// Gumroad's default.
const DEFAULT_SCOPE: &str = "view_public";

/// The requested scope, or the default one.
pub(super) fn requested(scope: Option<&str>) -> Result<String, Refused> {
    let scope = scope.unwrap_or(DEFAULT_SCOPE);
    if scope.split(' ').any(|wanted| SCOPES.iter().all(|(name, _)| *name != wanted)) {
        return Err(Refused::new("invalid_scope", "A scope is unknown"));
    }
    Ok(scope.to_owned())
}

/// A description of a scope for people.
pub(super) fn describe(scope: &str) -> Markup {
    html! {
        ul {
            @for scope in scope.split(' ') {
                li {
                    @match SCOPES.iter().find(|(name, _)| *name == scope) {
                        Some((_, meaning)) => { (meaning) " " code { "(" (scope) ")" } }
                        None => code { (scope) }
                    }
                }
            }
        }
    }
}
