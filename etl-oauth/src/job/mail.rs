//! Mail, by the feature `mail`.

use super::{JobError, Message};
use token_keeper::secrets::Secrets;

pub(super) use imp::Mailer;

#[cfg(feature = "mail")]
mod imp {
    use lettre::{
        AsyncSmtpTransport, AsyncTransport, Message as Mail, Tokio1Executor,
        message::{
            Mailbox, MultiPart,
            header::{Header, HeaderName, HeaderValue},
        },
    };
    use url::Url;

    use super::{JobError, Message, Secrets};
    use token_keeper::provider::is_loopback;

    /// Sends reports to one address, by the server of the secret `etl-oauth-smtp-url`.
    #[derive(Debug, Clone)]
    pub(in crate::job) struct Mailer {
        secrets: Secrets,
        to: Mailbox,
        from: Mailbox,
    }

    /// RFC 3834: no automatic reply is wanted.
    #[derive(Clone)]
    struct AutoSubmitted;

    impl Header for AutoSubmitted {
        fn name() -> HeaderName {
            HeaderName::new_from_ascii_str("Auto-Submitted")
        }

        fn parse(_: &str) -> Result<Self, crate::BoxError> {
            Ok(Self)
        }

        fn display(&self) -> HeaderValue {
            HeaderValue::new(Self::name(), "auto-generated".into())
        }
    }

    impl Mailer {
        pub(in crate::job) fn new(secrets: Secrets, to: &str, from: Option<&str>) -> Result<Self, String> {
            let read = |name: &str, text: &str| {
                text.parse::<Mailbox>().map_err(|_| format!("{name} is no address such as `Ann <ann@example.com>`"))
            };
            let to = read("report_to", to)?;
            let from = from.map_or_else(|| Ok(to.clone()), |from| read("report_from", from))?;
            let mailer = Self { secrets, to, from };
            // Reported at the start, and not with the first mail a week later.
            mailer.transport().map_err(|err| err.to_string())?;
            Ok(mailer)
        }

        pub(in crate::job) async fn send(&self, message: &Message) -> Result<(), JobError> {
            // A relay adds one where there is none; not every server is a relay.
            let mut id = [0; 16];
            let random = aws_lc_rs::rand::fill(&mut id).is_ok();
            let id = format!("<{:032x}@{}>", u128::from_be_bytes(id), self.from.email.domain());
            let builder = if random { Mail::builder().message_id(Some(id)) } else { Mail::builder() };
            let mail = builder
                .from(self.from.clone())
                .to(self.to.clone())
                .subject(&message.subject)
                .header(AutoSubmitted)
                .multipart(MultiPart::alternative_plain_html(message.text.clone(), message.html.clone()))
                .map_err(|err| JobError::Sink(format!("the report is no mail: {err}")))?;
            let failed = |err: lettre::transport::smtp::Error| {
                // Words of the server, or of the TLS library: the address and the password are in none.
                JobError::Sink(format!(
                    "the mail server of the secret etl-oauth-smtp-url did not take the report: {err}"
                ))
            };
            self.transport()?.send(mail).await.map(drop).map_err(failed)
        }

        /// Read anew for each mail: a changed password needs no restart.
        fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, JobError> {
            let wrong = |why: &str| JobError::Sink(format!("the secret etl-oauth-smtp-url {why}"));
            let secret = self
                .secrets
                .require("etl-oauth-smtp-url")
                .map_err(|err| JobError::Sink(format!("report_to needs a mail server: {err}")))?;
            let url: Url = secret
                .expose()
                .parse()
                .map_err(|_| wrong("is no URL such as smtps://user:password@mail.example.com"))?;
            let encrypted =
                url.scheme() == "smtps" || url.query_pairs().any(|(name, value)| name == "tls" && value == "required");
            if !encrypted && !is_loopback_host(&url) {
                return Err(wrong("would send its password unencrypted: take smtps://, or smtp:// with ?tls=required"));
            }
            let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(secret.expose())
                .map_err(|_| wrong("is no URL such as smtps://user:password@mail.example.com"))?;
            Ok(builder.timeout(Some(std::time::Duration::from_secs(20))).build())
        }
    }

    /// `url` knows the hosts of http alone as addresses.
    fn is_loopback_host(url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        format!("http://{host}/").parse().is_ok_and(|url| is_loopback(&url))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_mail_server_without_encryption_is_taken_on_this_machine_alone() {
            let folder = tempfile::tempdir().unwrap();
            let mailer = |url: &str| {
                std::fs::write(folder.path().join("etl-oauth-smtp-url"), url).unwrap();
                Mailer::new(Secrets::new(folder.path(), ""), "ann@example.com", None)
            };
            for good in [
                "smtp://127.0.0.1:2525",
                "smtp://localhost",
                "smtps://u:p@mail.example.com",
                "smtp://a.example?tls=required",
            ] {
                assert!(mailer(good).is_ok(), "{good}");
            }
            for bad in [
                "smtp://mail.example.com",
                "smtp://u:marker@mail.example.com?tls=opportunistic",
                "http://a.example",
                "mail",
            ] {
                let err = mailer(bad).unwrap_err();
                assert!(err.contains("etl-oauth-smtp-url") && !err.contains("marker"), "{err}");
            }
            assert!(Mailer::new(Secrets::new(folder.path(), ""), "ann", None).unwrap_err().contains("report_to"));
        }
    }
}

#[cfg(not(feature = "mail"))]
mod imp {
    use super::{JobError, Message, Secrets};

    /// Mail is not part of this build.
    #[derive(Debug, Clone)]
    pub(in crate::job) enum Mailer {}

    impl Mailer {
        pub(in crate::job) fn new(_: Secrets, _: &str, _: Option<&str>) -> Result<Self, String> {
            Err("report_to needs mail, which is not built in: build with the cargo feature mail".into())
        }

        #[allow(clippy::unused_async, reason = "the other one waits")]
        pub(in crate::job) async fn send(&self, _: &Message) -> Result<(), JobError> {
            match *self {}
        }
    }
}
