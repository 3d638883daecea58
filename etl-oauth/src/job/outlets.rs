use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{JobError, Ledger, mail::Mailer};
use crate::{provider::checked_url, secrets::Secrets};

/// Nobody wants to wait for a report that is an hour short of a week old, because the schedule jitters.
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24 - 1);

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

/// Whom results are sent to: the webhook of the secret `etl-oauth-notify-url`, and `report_to` by the server of the secret
/// `etl-oauth-smtp-url`; each where it is set.
#[derive(Debug, Clone)]
pub struct Outlets {
    secrets: Secrets,
    http: reqwest::Client,
    mailer: Option<Mailer>,
}

impl Outlets {
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
        Ok(Self { secrets, http, mailer })
    }

    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    fn webhook(&self) -> Option<String> {
        let secret = self.secrets.read("etl-oauth-notify-url").ok().flatten()?;
        Some(secret.expose().to_owned()).filter(|url| !url.is_empty())
    }

    /// Sends a report that goes out once a week, unless the last one is younger. Who runs the job more often gets no more
    /// of them; one that could not be sent is due again with the next run.
    ///
    /// # Errors
    /// When the ledger fails, or an outlet does not take it.
    pub async fn weekly(
        &self,
        ledger: &Ledger,
        now: Timestamp,
        message: impl FnOnce() -> Message,
    ) -> Result<bool, JobError> {
        if self.mailer.is_none() && self.webhook().is_none() {
            return Ok(false);
        }
        let mut entry = ledger.read::<Option<Timestamp>>("report").await?;
        if entry.notes.is_some_and(|sent| now.duration_since(sent) < WEEK) {
            return Ok(false);
        }
        // Written first: two runs side by side send one report, and a crash costs one rather than sending it with each run.
        let before = entry.notes.replace(now);
        let mut entry = ledger.write("report", entry).await?;
        if let Err(err) = self.send(&message()).await {
            entry.notes = before;
            ledger.write("report", entry).await?;
            return Err(err);
        }
        Ok(true)
    }

    /// Sends it to everybody who is named.
    async fn send(&self, message: &Message) -> Result<(), JobError> {
        if let Some(url) = self.webhook() {
            self.post(&url, message).await?;
        }
        if let Some(mailer) = &self.mailer {
            mailer.send(message).await?;
        }
        Ok(())
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
