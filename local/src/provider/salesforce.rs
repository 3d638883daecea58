use serde_json::{Value, json};

use super::{Shared, digest::Digest, grants::Issued};

/// Where Salesforce's tokens are.
pub(super) const TOKEN: &str = "/services/oauth2/token";

/// A token answer as Salesforce writes it: nothing tells when the token ends, and the API is where the answer says.
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
