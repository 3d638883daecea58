//! The owner of an account that needs a new authorisation gets a fresh link, once for each such change.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use url::{Host, Url};

use super::{
    super::App,
    LIFETIME,
    stored::{Link, Links, Owner, Terms},
};
use crate::{
    BoxError,
    config::Config,
    format::{moment, whole},
    job::{Delivery, Message},
};
use token_keeper::{
    provider::{checked_url, is_loopback},
    renewal::{Announcement, Announcer, Clock, Origin, WebhookKey, post_webhook},
    secrets::Secrets,
    store::Store,
    token::State,
};

/// Sends owners their links.
#[derive(Debug)]
pub(in crate::routes) struct Notifier {
    links: Links,
    secrets: Secrets,
    delivery: Delivery,
    /// The function's URL, without a slash at its end.
    base: String,
    /// Whether the function itself is on this machine: then webhooks may be, too.
    local: bool,
    clock: Clock,
}

/// The notifier of a function whose links are in `store`.
pub(in crate::routes) fn notifier(config: &Config, store: &Arc<Store>, clock: &Clock) -> Arc<Notifier> {
    Arc::new(Notifier {
        links: Links::new(store),
        secrets: config.secrets.clone(),
        delivery: config.outlets.clone(),
        base: config.page(""),
        local: is_loopback(&config.public_url),
        clock: clock.clone(),
    })
}

impl Notifier {
    /// The announcer of a connection, which notifies the owners of its accounts.
    pub(in crate::routes) fn announcer(self: &Arc<Self>, origin: Origin) -> Announcer {
        let this = Arc::clone(self);
        Announcer::new(move |news| {
            let (this, origin) = (Arc::clone(&this), origin.clone());
            async move { this.tell(&origin, &news).await }
        })
    }

    /// Whether the change has arrived, or is none for the owner.
    async fn tell(&self, origin: &Origin, news: &Announcement) -> bool {
        if news.to != State::NeedsAuthorisation || news.from == news.to {
            return true;
        }
        let owner = match self.links.owner(&origin.connection, &news.account).await {
            Ok(Some(owner)) if owner.told != Some(news.at) => owner,
            Ok(_) => return true,
            Err(err) => {
                tracing::warn!(account = news.account, error = %err, "failed to read where the owner is told");
                return false;
            }
        };
        let Some(to) = owner.terms.notify.clone() else { return true };
        match self.send(origin, news, &owner.terms, &to).await {
            Ok(link) => {
                tracing::info!(
                    connection = origin.connection,
                    account = news.account,
                    link,
                    "sent the owner a fresh link"
                );
                let told = Owner { told: Some(news.at), ..owner };
                // If that fails, the owner may be notified once more.
                let _ = self.links.set_owner(&origin.connection, &news.account, Some(&told)).await;
                true
            }
            Err(why) => {
                tracing::warn!(
                    connection = origin.connection,
                    account = news.account,
                    reason = why.to_string(),
                    "the owner did not get a fresh link; retrying later"
                );
                false
            }
        }
    }

    /// Makes a link and sends it; gives its id.
    async fn send(&self, origin: &Origin, news: &Announcement, terms: &Terms, to: &str) -> Result<String, BoxError> {
        let now = self.clock.now();
        let ends_at = now.checked_add(LIFETIME)?;
        let account = (&*origin.connection, &*news.account);
        let made = Link::new(account, "notice".into(), terms.clone(), now, ends_at);
        let (link, token) = made.ok_or("there is no randomness")?;
        self.links.add(&link).await?;
        let url = format!("{}/connect/{token}", self.base);
        let sent = if let Some(address) = to.strip_prefix("mailto:") {
            self.mail(origin, address, &url, ends_at).await
        } else {
            self.post(to, &self.body(origin, news, &url, ends_at), news.at).await
        };
        if sent.is_err() {
            // The next try makes another link: this one was not delivered.
            let _ = self.links.end(&link.id, now).await;
        }
        sent.map(|()| link.id)
    }

    fn body(&self, origin: &Origin, news: &Announcement, url: &str, ends_at: Timestamp) -> Value {
        let mut body = origin.sign(news.to_json());
        body["link"] = url.into();
        body["link_expires_at"] = json!(whole(ends_at));
        // The status page is the operator's.
        body["url"] = url.into();
        let words = format!(
            "{} lost its permission at {}. Connect it again: {url} (good once, until {})",
            origin.function,
            origin.provider,
            moment(ends_at)
        );
        body["text"] = words.clone().into();
        body["content"] = words.into();
        body
    }

    async fn mail(&self, origin: &Origin, address: &str, url: &str, ends_at: Timestamp) -> Result<(), BoxError> {
        let subject = format!("Connect {} again", origin.provider);
        let text = format!(
            "{} can no longer use your account at {}.\n\nOpen this link to connect it again:\n\n  {url}\n\n\
             The link is good once, and until {}.\n",
            origin.function,
            origin.provider,
            moment(ends_at)
        );
        // A function's and a provider's name have nothing in them that HTML would read; neither has a link of ours.
        let html = format!(
            "<p>{} can no longer use your account at {}.</p><p><a href=\"{url}\">Connect it again</a></p><p>The link is good \
             once, and until {}.</p>",
            origin.function,
            origin.provider,
            moment(ends_at)
        );
        Ok(self.delivery.mail_to(address, &Message { subject, text, html }).await?)
    }

    async fn post(&self, to: &str, body: &Value, at: Timestamp) -> Result<(), BoxError> {
        let (url, addresses) = self.resolve(to).await?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10))
            .user_agent(concat!("etl-oauth/", env!("CARGO_PKG_VERSION")))
            // The name is not resolved again: it could be another address by then.
            .resolve_to_addrs(&host, &addresses)
            .build()?;
        let id = format!("link_{}", at.as_millisecond());
        Ok(post_webhook(&client, &url, &id, &body.to_string(), key(&self.secrets)?.as_ref()).await?)
    }

    /// The addresses of a webhook, all of which may be reached from here: a caller could else name services of the cluster.
    async fn resolve(&self, to: &str) -> Result<(Url, Vec<SocketAddr>), BoxError> {
        let url = checked_url(to).map_err(|err| err.to_string())?;
        let port = url.port_or_known_default().unwrap_or(443);
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
        let refused = addresses.iter().any(|address| !may_reach(address.ip(), self.local));
        if refused || addresses.is_empty() {
            return Err("the webhook's address is private".into());
        }
        Ok((url, addresses))
    }
}

impl App {
    /// The mistake in the address for notifications; `None` where there is none.
    pub(super) fn notify_mistake(&self, to: &str) -> Option<String> {
        if let Some(address) = to.strip_prefix("mailto:") {
            return self.config.outlets.mail_mistake(address);
        }
        let local = is_loopback(&self.config.public_url);
        match checked_url(to) {
            Err(err) => Some(format!("`notify` {err}")),
            Ok(url) if url.scheme() == "http" && !local => Some("`notify` must begin with https://".into()),
            Ok(url) => {
                let literal = match url.host() {
                    Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
                    Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
                    _ => None,
                };
                let private = literal.is_some_and(|ip| !may_reach(ip, local));
                private.then(|| "`notify` names a private address".into())
            }
        }
    }
}

/// The key of signed notifications, where one is mounted. With one that cannot be read nothing is sent: a receiver would take
/// it for a forgery.
fn key(secrets: &Secrets) -> Result<Option<WebhookKey>, BoxError> {
    let Some(key) = secrets.read("etl-oauth-notify-key")? else { return Ok(None) };
    let why = "the secret etl-oauth-notify-key is not `whsec_` and base64 of 24 to 64 bytes";
    WebhookKey::read(&key).map(Some).ok_or_else(|| why.into())
}

/// Whether a webhook may be at this address: a public one, or this machine for a function that is there itself.
fn may_reach(ip: IpAddr, local: bool) -> bool {
    let ip = ip.to_canonical();
    if ip.is_loopback() {
        return local;
    }
    match ip {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let shared = first == 100 && (64..128).contains(&second);
            let odd = first == 0
                || first >= 240
                || (first == 192 && second == 0)
                || (first == 198 && (18..20).contains(&second));
            !(ip.is_private() || ip.is_link_local() || ip.is_multicast() || ip.is_documentation() || shared || odd)
        }
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            // Global unicast alone, without addresses that lead to IPv4 ones (6to4, NAT64, Teredo).
            (0x2000..0x4000).contains(&first) && first != 0x2002 && !(first == 0x2001 && ip.segments()[1] < 0x200)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_key_that_cannot_be_read_nothing_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(folder.path(), "");
        assert!(key(&secrets).unwrap().is_none());
        std::fs::write(folder.path().join("etl-oauth-notify-key"), "whsec_c2hvcnQ=").unwrap();
        assert!(key(&secrets).unwrap_err().to_string().contains("etl-oauth-notify-key"));
        std::fs::write(folder.path().join("etl-oauth-notify-key"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert!(key(&secrets).unwrap().is_some());
    }

    #[test]
    fn a_webhook_of_an_owner_is_at_a_public_address() {
        for (text, public) in [
            ("93.184.216.34", true),
            ("2606:2800:220:1::1", true),
            ("10.0.0.1", false),
            ("172.16.9.9", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::ffff:10.0.0.1", false),
            ("64:ff9b::a00:1", false),
            ("2002:a00:1::1", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::", false),
        ] {
            assert_eq!(may_reach(text.parse().unwrap(), true), public, "{text}");
        }
        for loopback in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(may_reach(loopback.parse().unwrap(), true) && !may_reach(loopback.parse().unwrap(), false));
        }
    }
}
