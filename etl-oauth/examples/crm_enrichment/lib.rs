//! Gives each contact of a CRM that has no company the one of its mail address's domain.

use std::collections::HashMap;

use etl_oauth::{
    BoxError, Handler,
    api::{Api, Paging},
};
use serde_json::{Value, json};

#[derive(serde::Deserialize)]
struct Page {
    results: Vec<Contact>,
}

#[derive(serde::Deserialize)]
struct Contact {
    id: String,
    email: Option<String>,
    company: Option<String>,
}

#[derive(Debug, Default, PartialEq, serde::Serialize)]
struct Done {
    seen: usize,
    enriched: usize,
}

async fn enrich(api: Api, (): ()) -> Result<Done, BoxError> {
    let cursor = Paging::Cursor {
        parameter: "after".into(),
        next: Some("paging.next.after".into()),
        last: None,
        more: None,
        records: String::new(),
    };
    let (mut done, mut companies) = (Done::default(), HashMap::<String, Option<String>>::new());
    let mut pages = api.get("/contacts").query("limit", "100").pages(cursor, 10_000);
    while let Some(page) = pages.next().await {
        for contact in page?.json::<Page>()?.results {
            done.seen += 1;
            let domain = contact.email.as_deref().and_then(|email| email.rsplit_once('@')).map(|(_, domain)| domain);
            let (None, Some(domain)) = (&contact.company, domain) else { continue };
            if !companies.contains_key(domain) {
                let found: Value = api.get("/companies").query("domain", domain).json().await?;
                companies.insert(domain.to_owned(), found["results"][0]["name"].as_str().map(str::to_owned));
            }
            if let Some(Some(company)) = companies.get(domain) {
                let change = json!({ "company": company });
                api.patch(&format!("/contacts/{}", contact.id)).body_json(&change).send().await?;
                done.enriched += 1;
            }
        }
    }
    Ok(done)
}

pub async fn handler() -> Result<Handler, BoxError> {
    etl_oauth::with(enrich).await
}

#[cfg(test)]
mod tests;
