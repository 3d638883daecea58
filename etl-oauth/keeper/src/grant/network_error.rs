//! Why no answer came, in words that lead to the cause: which host, and what the resolver, the socket or TLS says.

use std::error::Error;

use url::Url;

use crate::text;

/// The longest chain of causes that is shown, in characters.
const LONGEST: usize = 300;

/// The causes of `err` for a request to `url`: a sentence that names the host, then the chain of sources. Shows nothing of
/// the URL but its host and port.
pub(crate) fn describe(url: &Url, err: &reqwest::Error) -> String {
    let chain = chain(err);
    let host = url.host_str().unwrap_or("the host");
    let place = url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let lower = chain.to_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let what = if any(&["dns error", "failed to lookup"]) {
        format!("the name {host} could not be resolved")
    } else if any(&["connection refused"]) {
        format!("{place} refused the connection")
    } else if any(&["certificate"]) && any(&["expired"]) {
        format!("the certificate of {host} has expired")
    } else if any(&["unknownissuer", "unknown issuer", "unknown authority"]) {
        format!("the certificate of {host} is signed by an authority that is not known here")
    } else if any(&["notvalidforname", "not valid for name"]) {
        format!("the certificate of {host} is for another name")
    } else if any(&["certificate", "handshake", "tls"]) {
        format!("no TLS connection to {host}")
    } else if err.is_timeout() {
        format!("{place} did not answer in time")
    } else if err.is_connect() {
        format!("no connection to {place}")
    } else {
        format!("the connection to {place} broke off")
    };
    if chain.is_empty() { what } else { format!("{what} ({chain})") }
}

/// The sources of an error, the outermost first, without those that only repeat that a request failed.
fn chain(err: &reqwest::Error) -> String {
    let mut links: Vec<String> = Vec::new();
    let mut next = err.source();
    while let Some(source) = next {
        let link = source.to_string();
        let empty = link.starts_with("client error") || link.starts_with("error sending request");
        // An error often shows its source: the longer one stays.
        if !empty && !links.iter().any(|known| known.contains(&link)) {
            links.retain(|known| !link.contains(known.as_str()));
            links.push(link);
        }
        next = source.source();
    }
    text::cut(&links.join(": "), LONGEST)
}

#[cfg(test)]
mod tests;
