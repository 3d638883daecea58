//! Where data goes, on real servers: an S3 server (moto) and a mail server (aiosmtpd), which `e2e.sh` installs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use reqwest::Client;
use serde_json::Value;
use tests::{Fleet, free_port};
use tokio::{net::TcpStream, process::Child};

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

/// Starts a server of the Python that `SINKS_PYTHON` names, and waits until it listens.
async fn server(arguments: &[&str], port: u16) -> Child {
    let python = std::env::var("SINKS_PYTHON").expect("SINKS_PYTHON is a Python with tests/sinks/requirements.txt");
    let child = tokio::process::Command::new(python)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(60), "{arguments:?} does not start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    child
}

async fn fleet(folder: &Path, variables: &[(&str, &str)], secrets: &[(&str, &str)]) -> Fleet {
    let path = folder.join("tokens").display().to_string();
    let mut all = vec![
        ("store", "file"),
        ("store_path", &*path),
        ("allow_ephemeral_store", "true"),
        ("enable_auth", "first_visit"),
        ("min_run_interval", "0s"),
    ];
    all.extend(variables);
    Fleet::start(PROGRAM, 1, &all, secrets).await
}

/// The bucket, asked as its owner: the server looks for credentials, and takes any.
struct Bucket(String);

impl Bucket {
    const OWNER: &str =
        "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

    async fn get(&self, path: &str) -> String {
        let request = Client::new().get(format!("{}{path}", self.0)).header("authorization", Self::OWNER);
        request.send().await.unwrap().text().await.unwrap()
    }

    async fn names(&self) -> Vec<String> {
        let list = self.get("?list-type=2").await;
        list.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap().to_owned()).collect()
    }

    async fn ids(&self) -> Vec<u64> {
        let mut ids = Vec::new();
        for name in self.names().await {
            let text = self.get(&format!("/{name}")).await;
            let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            ids.extend(records.map(|record| record["id"].as_u64().unwrap()));
        }
        ids
    }
}

#[tokio::test]
async fn a_bucket_has_every_record_once_although_the_run_was_killed() {
    const RECORDS: u64 = 5000;
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let _moto = server(&["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()], port).await;
    let bucket = Bucket(format!("http://127.0.0.1:{port}/data"));
    let made = Client::new().put(&bucket.0).header("authorization", Bucket::OWNER).send().await.unwrap();
    assert_eq!(made.status(), 200);
    let plan = folder.path().join("plan.toml");
    let text = format!(
        "[sink]\nkind = 'bucket'\nurl = 's3://data/copies'\n\
         options = {{ aws_endpoint = 'http://127.0.0.1:{port}', aws_allow_http = 'true', aws_region = 'us-east-1' }}\n\n\
         [[resource]]\nname = 'things'\npath = '/records'\nrecords = 'records'\nkey = 'id'\nbatch = 200\n\
         params = {{ count = '{RECORDS}', limit = '100' }}\ncursor = {{ field = 'updated', parameter = 'since' }}\n\
         paging = {{ style = 'cursor', parameter = 'cursor', next = 'next' }}\n"
    );
    std::fs::write(&plan, text).unwrap();
    let keys = "aws_access_key_id=key\naws_secret_access_key=secret\n";
    let variables = [("job", "extract"), ("extract_file", plan.to_str().unwrap())];
    let mut fleet = fleet(folder.path(), &variables, &[("etl-oauth-sink-options", keys)]).await;
    let http = Client::new();
    for wanted in [2, 9] {
        let run = tokio::spawn(http.post(fleet.url(0, "/")).send());
        let start = Instant::now();
        while bucket.names().await.len() < wanted {
            assert!(start.elapsed() < Duration::from_secs(60), "no objects:\n{}", fleet.log(0));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fleet.kill(0).await;
        let _ = run.await.unwrap();
        fleet.until_up(0).await;
    }
    let answer = http.post(fleet.url(0, "/")).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", fleet.log(0));
    assert_eq!(bucket.ids().await, (0..RECORDS).collect::<Vec<_>>());
    assert!(bucket.names().await.iter().all(|name| name.starts_with("copies/things/00000000-")));
    fleet.stop().await;
}

#[tokio::test]
async fn the_weekly_report_comes_by_mail_once_as_text_and_as_a_page() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let mailbox = folder.path().join("mail");
    let listen = format!("127.0.0.1:{port}");
    let handler = ["-m", "aiosmtpd", "-n", "-l", &listen, "-c", "aiosmtpd.handlers.Mailbox", mailbox.to_str().unwrap()];
    let _smtp = server(&handler, port).await;
    let variables = [("job", "gumroad"), ("report_to", "Ann <ann@example.com>"), ("report_from", "etl@example.com")];
    let url = format!("smtp://127.0.0.1:{port}");
    let mut fleet = fleet(folder.path(), &variables, &[("etl-oauth-smtp-url", &url)]).await;
    for _ in 0..2 {
        let answer = Client::new().post(fleet.url(0, "/")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", fleet.log(0));
        // Also a restart does not send it again.
        fleet.kill(0).await;
        fleet.until_up(0).await;
    }
    let mails: Vec<_> = std::fs::read_dir(mailbox.join("new")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(mails.len(), 1, "{}", fleet.log(0));
    let mail = std::fs::read_to_string(&mails[0]).unwrap();
    for part in [
        "Subject: Your week on Gumroad",
        "ann@example.com",
        "text/plain",
        "text/html",
        "Last sale",
        "By country",
        "Auto-Submitted: auto-generated",
        "Message-ID: <",
    ] {
        assert!(mail.contains(part), "{part}: {mail}");
    }
    fleet.stop().await;
}
