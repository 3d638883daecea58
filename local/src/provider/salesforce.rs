use serde_json::{Value, json};

use super::{Shared, digest::Digest, grants::Issued};

/// The path of Salesforce's token endpoint.
pub(super) const TOKEN: &str = "/services/oauth2/token";

/// A token response as Salesforce writes it: without a lifetime, and with the API's address.
pub(super) fn answer(shared: &Shared, issued: Issued) -> Value {
    let id = format!("{}/id/00Dx0000000BV7zEAG/005x00000012Q9PAAU", shared.issuer);
    let issued_at = issued.created_at.as_millisecond().to_string();
    let mut body = json!({
        "access_token": issued.access_token,
        "signature": Digest::of(&format!("{id}{issued_at}")).short(),
        "scope": issued.scope,
        "instance_url": shared.issuer,
        "id": id,
        "token_type": "Bearer",
        "issued_at": issued_at,
    });
    if let Some(token) = issued.refresh_token {
        body["refresh_token"] = json!(token);
    }
    body
}
