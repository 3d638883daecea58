//! The output of a function, for `/system/logs` and the terminal.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::sync::broadcast;

use crate::console::Console;

/// How many lines of a function are kept.
const KEPT: usize = 1000;

/// The longest line in bytes; a longer one is split.
const LONGEST: u64 = 64 * 1024;

/// A line, in the JSON of `/system/logs`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) namespace: &'static str,
    pub(crate) instance: String,
    pub(crate) timestamp: Timestamp,
    pub(crate) text: String,
}

/// The log of one function.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    name: String,
    console: Console,
    kept: Arc<Mutex<VecDeque<Line>>>,
    followers: broadcast::Sender<Line>,
}

impl Log {
    pub(crate) fn new(name: &str, console: Console) -> Self {
        Self { name: name.to_owned(), console, kept: Arc::default(), followers: broadcast::Sender::new(KEPT) }
    }

    pub(super) fn say(&self, instance: &str, text: &str) {
        let who = if instance.is_empty() { self.name.clone() } else { format!("{}[{instance}]", self.name) };
        self.console.say(&who, text);
        let line = Line {
            name: self.name.clone(),
            namespace: super::NAMESPACE,
            instance: instance.to_owned(),
            timestamp: Timestamp::now(),
            text: text.to_owned(),
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(line.clone());
        if kept.len() > KEPT {
            kept.pop_front();
        }
        // Under the lock, so that a follower gets each line once; an error means that there is no follower.
        let _ = self.followers.send(line);
    }

    /// Logs every line of `output` until it ends.
    pub(super) async fn pipe(&self, instance: &str, output: impl AsyncRead + Unpin) {
        self.pipe_to(instance, output, |_| {}).await;
    }

    /// The same, and returns the last lines as one text.
    pub(super) async fn pipe_and_keep(&self, instance: &str, output: impl AsyncRead + Unpin) -> String {
        let mut kept = VecDeque::new();
        self.pipe_to(instance, output, |line| {
            kept.push_back(format!("{line}\n"));
            if kept.len() > KEPT {
                kept.pop_front();
            }
        })
        .await;
        kept.into_iter().collect()
    }

    async fn pipe_to(&self, instance: &str, output: impl AsyncRead + Unpin, mut keep: impl FnMut(&str)) {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while let Ok(1..) = (&mut output).take(LONGEST).read_until(b'\n', &mut line).await {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            self.say(instance, text);
            keep(text);
            line.clear();
        }
    }

    /// The kept lines, and a receiver of the lines after them.
    pub(crate) fn follow(&self) -> (Vec<Line>, broadcast::Receiver<Line>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.followers.subscribe())
    }
}
