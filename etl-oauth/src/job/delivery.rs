use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{JobError, JobState, mail::Mailer};
use token_keeper::{provider::checked_url, secrets::Secrets};

/// A schedule jitters: a report that is an hour short of a week old is due.
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24 - 1);

/// The outlets' names in the ledger.
const WEBHOOK: &str = "webhook";
const MAIL: &str = "mail";

/// A report for people.
#[derive(Debug, Clone)]
pub struct Message {
    /// What it is.
    pub subject: String,
    /// As plain text.
    pub text: String,
    /// As a page of its own.
    pub html: String,
}

/// The receivers of results: the webhook of the secret `etl-oauth-notify-url`, and `report_to` by the server of the secret
/// `etl-oauth-smtp-url`; each where it is set.
#[derive(Debug, Clone)]
pub struct Delivery {
    secrets: Secrets,
    http: reqwest::Client,
    mailer: Option<Mailer>,
    /// The sender of mail.
    from: Option<String>,
}

impl Delivery {
    /// Those that `secrets` name, and the mail of the variables `report_to` and `report_from`.
    ///
    /// # Errors
    /// When `report_to` or `report_from` is no address, or mail is not built in; or the TLS library does not start.
    pub fn new(secrets: Secrets, report_to: Option<&str>, report_from: Option<&str>) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10))
            .user_agent(concat!("etl-oauth/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| "the TLS library does not start".to_owned())?;
        let mailer = report_to.map(|to| Mailer::new(secrets.clone(), to, report_from)).transpose()?;
        Ok(Self { secrets, http, mailer, from: report_from.map(str::to_owned) })
    }

    /// Sends one mail to an address, by the server of the secret `etl-oauth-smtp-url`.
    ///
    /// # Errors
    /// When it is no address, mail is not built in or set up, or the server does not take it.
    pub async fn mail_to(&self, address: &str, message: &Message) -> Result<(), JobError> {
        let mailer = Mailer::new(self.secrets.clone(), address, self.from.as_deref()).map_err(JobError::Sink)?;
        mailer.send(message).await
    }

    /// Why no mail can be sent to that address.
    #[must_use]
    pub fn mail_mistake(&self, address: &str) -> Option<String> {
        Mailer::new(self.secrets.clone(), address, self.from.as_deref()).err()
    }

    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    fn webhook(&self) -> Option<String> {
        let secret = self.secrets.read("etl-oauth-notify-url").ok().flatten()?;
        Some(secret.expose().to_owned()).filter(|url| !url.is_empty())
    }

    /// Sends a report that goes out once a week, to each outlet by itself: who runs the job more often gets no more of them,
    /// and one that could not be sent is due again with the next run, there alone.
    ///
    /// # Errors
    /// When the ledger fails, or an outlet does not take it; the others have it then.
    pub async fn weekly(
        &self,
        ledger: &JobState,
        now: Timestamp,
        message: impl FnOnce() -> Message,
    ) -> Result<bool, JobError> {
        let webhook = self.webhook();
        let there = [(WEBHOOK, webhook.is_some()), (MAIL, self.mailer.is_some())];
        let there: Vec<_> = there.into_iter().filter_map(|(name, there)| there.then_some(name)).collect();
        if there.is_empty() {
            return Ok(false);
        }
        let mut entry = ledger.read::<BTreeMap<String, Timestamp>>("reports").await?;
        let before = entry.notes.clone();
        let is_due = |name: &&str| before.get(*name).is_none_or(|sent| now.duration_since(*sent) >= WEEK);
        let due: Vec<_> = there.into_iter().filter(is_due).collect();
        if due.is_empty() {
            return Ok(false);
        }
        // Written first: two runs side by side send one report, and a crash costs one rather than sending it with each run.
        entry.notes.extend(due.iter().map(|name| ((*name).to_owned(), now)));
        let mut entry = ledger.write("reports", entry).await?;
        let message = message();
        let mut failed = None;
        for name in due {
            let sent = match (name, &webhook, &self.mailer) {
                (WEBHOOK, Some(url), _) => self.post(url, &message).await,
                (_, _, Some(mailer)) => mailer.send(&message).await,
                _ => Ok(()),
            };
            if let Err(err) = sent {
                match before.get(name) {
                    Some(at) => entry.notes.insert(name.to_owned(), *at),
                    None => entry.notes.remove(name),
                };
                failed = Some(err);
            }
        }
        match failed {
            None => Ok(true),
            Some(err) => {
                ledger.write("reports", entry).await?;
                Err(err)
            }
        }
    }

    async fn post(&self, url: &str, message: &Message) -> Result<(), JobError> {
        let failed = |why: String| JobError::Sink(format!("the webhook of the secret etl-oauth-notify-url {why}"));
        let url = checked_url(url).map_err(|err| failed(err.to_string()))?;
        let text = format!("{}\n\n{}", message.subject, message.text);
        // Slack reads `text` and calls people by `<!…>` in it; Discord reads `content`, and takes 2000 characters.
        let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let body = json!({
            "text": escaped,
            "content": text.chars().take(1900).collect::<String>(),
            "allowed_mentions": { "parse": [] },
            "subject": message.subject,
            "html": message.html,
        });
        let answer = self.http.post(url).json(&body).send().await;
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(failed(format!("answers {}", answer.status().as_u16()))),
            // The path of such a URL is a password.
            Err(err) => Err(failed(format!("did not take the report: {}", err.without_url()))),
        }
    }
}
