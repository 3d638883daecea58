//! Where log lines go: collected for a moment, then written by a thread of its own, so that no call waits for a pipe.

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    clock::{self, Utc},
    config::LogFormat,
};

/// Lines that come within this time leave in one write.
const GATHER: Duration = Duration::from_millis(5);
/// From so many unwritten bytes on whoever logs has to write, too: a slow reader slows the calls down instead of
/// filling the memory.
const PENDING_LIMIT: usize = 1 << 20;

/// A log that can be written to from anywhere.
#[derive(Clone)]
pub(crate) struct Log {
    shared: Arc<Shared>,
    format: LogFormat,
}

struct Shared {
    pending: Mutex<Pending>,
    filled: Condvar,
    /// Taken before `pending` by whoever writes, so that lines keep their order.
    out: Mutex<Out>,
}

#[derive(Default)]
struct Pending {
    lines: Vec<u8>,
    /// The text of this second, which thousands of lines may share, and when it ends.
    stamp: String,
    stamp_end: Option<Instant>,
}

struct Out {
    to: Box<dyn Write + Send>,
    /// Changes places with the pending lines, so that neither has to grow anew each time.
    lines: Vec<u8>,
}

impl Log {
    /// A log to standard error, as of-watchdog's.
    pub(crate) fn stderr(format: LogFormat) -> io::Result<Self> {
        Self::to(Box::new(io::stderr()), format)
    }

    pub(crate) fn to(out: Box<dyn Write + Send>, format: LogFormat) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            pending: Mutex::default(),
            filled: Condvar::new(),
            out: Mutex::new(Out { to: out, lines: Vec::new() }),
        });
        let weak = Arc::downgrade(&shared);
        thread::Builder::new().name("log".into()).spawn(move || {
            while let Some(shared) = weak.upgrade() {
                shared.wait();
                thread::sleep(GATHER);
                shared.flush();
            }
        })?;
        Ok(Self { shared, format })
    }

    pub(crate) fn format(&self) -> LogFormat {
        self.format
    }

    /// Writes one line of the watchdog's own.
    pub(crate) fn say(&self, message: impl fmt::Display) {
        self.tell("INFO", message);
    }

    /// Writes one line about something that went wrong inside the function.
    pub(crate) fn error(&self, message: impl fmt::Display) {
        self.tell("ERROR", message);
    }

    fn tell(&self, level: &str, message: impl fmt::Display) {
        match self.format {
            LogFormat::Text => self.line(format_args!("{} {message}", Stamp(Utc::now()))),
            LogFormat::Json => self.line(format_args!(
                "{{\"time\":\"{}\",\"level\":\"{level}\",\"message\":{}}}",
                Rfc3339(Utc::now()),
                JsonStr(&message.to_string())
            )),
        }
    }

    /// Writes one line as it is.
    pub(crate) fn line(&self, line: fmt::Arguments<'_>) {
        // Made before the lock is taken: what is written may be a stranger's, slow, or panic.
        let mut bytes = Vec::with_capacity(160);
        // Writing to a Vec cannot fail.
        let _ = bytes.write_fmt(line);
        self.append(|pending| pending.lines.extend_from_slice(&bytes));
    }

    /// Writes one line that begins with the time, which is `now`, its rest by `write`, which is to be quick.
    pub(crate) fn stamped(&self, now: Instant, write: impl FnOnce(&mut Vec<u8>)) {
        self.append(|pending| {
            if pending.stamp_end.is_none_or(|end| now >= end) {
                let since = clock::unix();
                pending.stamp = Stamp(Utc::at(since)).to_string();
                pending.stamp_end =
                    now.checked_add(Duration::from_nanos((1_000_000_000 - since.subsec_nanos()).into()));
            }
            pending.lines.extend_from_slice(pending.stamp.as_bytes());
            pending.lines.push(b' ');
            write(&mut pending.lines);
        });
    }

    fn append(&self, write: impl FnOnce(&mut Pending)) {
        let mut pending = lock(&self.shared.pending);
        let was_empty = pending.lines.is_empty();
        write(&mut pending);
        pending.lines.push(b'\n');
        let full = pending.lines.len() > PENDING_LIMIT;
        drop(pending);
        if full {
            self.shared.flush();
        } else if was_empty {
            self.shared.filled.notify_one();
        }
    }

    /// Writes all that is pending; before the process ends, and after a panic.
    pub(crate) fn flush(&self) {
        self.shared.flush();
    }
}

impl Shared {
    fn wait(&self) {
        let mut pending = lock(&self.pending);
        // Wakes up now and then to see whether the log is still there.
        while pending.lines.is_empty() {
            let (guard, timeout) =
                self.filled.wait_timeout(pending, Duration::from_secs(60)).unwrap_or_else(PoisonError::into_inner);
            pending = guard;
            if timeout.timed_out() {
                return;
            }
        }
    }

    fn flush(&self) {
        let mut out = lock(&self.out);
        let Out { to, lines } = &mut *out;
        std::mem::swap(&mut lock(&self.pending).lines, lines);
        // Nobody is left to tell when standard error is closed.
        let _ = to.write_all(lines).and_then(|()| to.flush());
        lines.clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("format", &self.format).finish_non_exhaustive()
    }
}

/// `2006/01/02 15:04:05`, as Go's log package writes it.
pub(crate) struct Stamp(pub(crate) Utc);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.0;
        write!(f, "{:04}/{:02}/{:02} {:02}:{:02}:{:02}", t.year, t.month, t.day, t.hour, t.minute, t.second)
    }
}

/// `2006-01-02T15:04:05.000000Z`.
pub(crate) struct Rfc3339(pub(crate) Utc);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.0;
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
            t.year, t.month, t.day, t.hour, t.minute, t.second, t.micros
        )
    }
}

/// A string as JSON, quotes included.
pub(crate) struct JsonStr<'a>(pub(crate) &'a str);

impl fmt::Display for JsonStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                c if c < ' ' || c == '\u{7f}' => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// What a log has written, for tests.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Lines(pub(crate) std::sync::Arc<Mutex<Vec<u8>>>);

#[cfg(test)]
impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
