//! A connection's bytes on their way between the socket and hyper: one request at a time, its head judged, its body
//! measured, all of it within its time.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

use crate::{
    alarm::Alarm,
    chunked::Chunked,
    head::{self, Length, Verdict},
    input::{INPUT_LARGE, Input},
    refusal::Refusal,
    traffic::Traffic,
};

/// How long a client may take to notice that it is not listened to any more, before the socket is closed under it. An
/// earlier close would reset the connection, and the answer might be lost with it.
const LINGER: Duration = Duration::from_millis(500);
/// A short answer is put together here: the system takes one piece faster than two.
const SMALL: usize = 1024;
/// Room that hyper makes for header lines without being told.
const LINES: usize = 100;

/// What the first bytes of a connection say.
pub(crate) enum Protocol {
    /// `lines` is the number of header lines that hyper has to be told to make room for, which costs it some speed.
    Http1 {
        lines: Option<usize>,
    },
    Http2,
}

/// A socket with a judgement of its own. Implements hyper's reading and writing.
pub(crate) struct Wire {
    stream: TcpStream,
    traffic: Arc<Traffic>,
    state: State,
    input: Input,
    /// What hyper is to read next.
    ready: Vec<u8>,
    ready_at: usize,
    ended: bool,
    read_timeout: Option<Duration>,
    read_alarm: Alarm,
    cut_alarm: Alarm,
    refusal: Option<Vec<u8>>,
    lines: usize,
    lingering: Option<Pin<Box<Sleep>>>,
}

enum State {
    /// Before or in a head; up to `from` it is known to have no end.
    Head {
        from: usize,
    },
    Counted(u64),
    Chunked(Chunked),
    /// Nothing of what comes is looked at: HTTP/2, or after an upgrade.
    Raw,
    Refused,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, traffic: Arc<Traffic>, read_timeout: Duration) -> Self {
        Self {
            stream,
            traffic,
            state: State::Head { from: 0 },
            input: Input::default(),
            ready: Vec::new(),
            ready_at: 0,
            ended: false,
            read_timeout: Some(read_timeout).filter(|limit| !limit.is_zero()),
            read_alarm: Alarm::default(),
            cut_alarm: Alarm::default(),
            refusal: None,
            lines: head::LINES_LIMIT,
            lingering: None,
        }
    }

    /// Waits for the first head. `None`: there is none to answer.
    pub(crate) async fn protocol(&mut self) -> Option<Protocol> {
        let protocol = match poll_fn(|cx| self.poll_head(cx)).await {
            Ok(Some(found)) => Some(found),
            Ok(None) | Err(_) => None,
        };
        if let Some(Protocol::Http1 { lines }) = protocol {
            self.lines = lines.unwrap_or(LINES);
        }
        if protocol.is_none() {
            // Nothing was answered before, so the refusal, if there is one, can go at once.
            let _ = poll_fn(|cx| Pin::new(&mut *self).poll_shutdown(cx)).await;
        }
        protocol
    }

    /// Reads until a head is whole and puts it into `ready`. `None`: there will be no other.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Protocol>>> {
        loop {
            let State::Head { from } = self.state else { return Poll::Ready(Ok(None)) };
            if !self.input.is_empty() {
                match head::judge(self.input.bytes(), from, self.lines) {
                    Verdict::Incomplete(next) => self.state = State::Head { from: next },
                    Verdict::Refused(refusal) => return Poll::Ready(self.refuse(refusal)),
                    Verdict::Http2 => {
                        self.state = State::Raw;
                        self.read_alarm.off();
                        return Poll::Ready(Ok(Some(Protocol::Http2)));
                    }
                    Verdict::Head { length, lines, body, rewritten } => {
                        self.stage(length, rewritten);
                        self.state = match body {
                            Length::Counted(0) => State::Head { from: 0 },
                            Length::Counted(n) => State::Counted(n),
                            Length::Chunked => State::Chunked(Chunked::default()),
                        };
                        self.traffic.begin(body != Length::Counted(0));
                        if body == Length::Counted(0) {
                            self.read_alarm.off();
                        }
                        return Poll::Ready(Ok(Some(Protocol::Http1 {
                            lines: Some(lines).filter(|&lines| lines > LINES),
                        })));
                    }
                }
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            // One limit for the wait between two requests, one from the first byte of a head on.
            let started = !self.input.is_empty();
            match self.poll_fill(cx)? {
                Poll::Ready(()) if started => {}
                // Most heads are whole now. Only one that has to be waited for needs the time.
                Poll::Ready(()) => self.read_alarm.off(),
                Poll::Pending => {
                    if !self.read_alarm.is_set() {
                        let idle = self.traffic.idle_since().filter(|_| !started);
                        self.read_alarm.set(idle.unwrap_or_else(Instant::now), self.read_timeout);
                    }
                    ready!(self.read_alarm.poll(cx));
                    self.input.clear();
                    self.ended = true;
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> io::Result<Option<Protocol>> {
        self.refusal = Some(refusal.to_bytes());
        self.state = State::Refused;
        Ok(None)
    }

    fn stage(&mut self, length: usize, rewritten: Option<Vec<u8>>) {
        debug_assert!(self.ready_at == self.ready.len(), "one request at a time");
        self.ready_at = 0;
        match rewritten {
            Some(head) => self.ready = head,
            None => {
                self.ready.clear();
                self.ready.extend_from_slice(&self.input.bytes()[..length]);
            }
        }
        self.input.consume(length);
    }

    /// Reads from the socket into `input`; sets `ended` at its end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        let room = match self.state {
            State::Head { .. } if !self.traffic.is_busy() => head::LIMIT + 1,
            State::Head { .. } | State::Refused => INPUT_LARGE,
            _ => INPUT_LARGE,
        };
        let mut buffer = ReadBuf::new(self.input.room(room));
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(result) => {
                result?;
                let n = buffer.filled().len();
                self.input.filled(n);
                self.ended |= n == 0;
                Ok(Poll::Ready(()))
            }
        }
    }

    /// Waits for bytes of a body.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_fill(cx)? {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => {
                if !self.read_alarm.is_set() {
                    self.read_alarm.set(Instant::now(), self.read_timeout);
                }
                ready!(self.read_alarm.poll(cx));
                self.traffic.set_late();
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the body did not come within read_timeout")))
            }
        }
    }

    /// While a call runs, hyper reads to see whether the client is still there. What it has sent ahead waits; a client
    /// that has closed its own side may still want the answer, unless that is a stream.
    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.traffic.set_watched();
        while !self.ended && self.input.len() < INPUT_LARGE {
            if self.poll_fill(cx)?.is_pending() {
                if self.input.is_empty() {
                    // Nobody will wake hyper when the answer is written, so the limit of the wait for the next request
                    // is set going now; see `poll_head` for how it is counted.
                    self.read_alarm.keep_going(cx, self.read_timeout);
                } else {
                    self.traffic.wake_when_written(cx.waker());
                }
                return Poll::Pending;
            }
        }
        if self.ended && self.traffic.is_streaming() {
            return Poll::Ready(Ok(()));
        }
        self.traffic.wake_when_written(cx.waker());
        Poll::Pending
    }

    /// Gives hyper what there is for it; `true` if that was something.
    fn hand_over(&mut self, cursor: &mut ReadBufCursor<'_>) -> bool {
        let before = cursor.remaining();
        loop {
            let n = cursor.remaining().min(self.ready.len() - self.ready_at);
            cursor.put_slice(&self.ready[self.ready_at..self.ready_at + n]);
            self.ready_at += n;
            if cursor.remaining() == 0 || self.input.is_empty() {
                break;
            }
            match &mut self.state {
                State::Counted(left) => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(cursor.remaining()).min(self.input.len());
                    cursor.put_slice(&self.input.bytes()[..n]);
                    self.input.consume(n);
                    *left -= n as u64;
                    if *left == 0 {
                        self.body_ended();
                    }
                    break;
                }
                State::Chunked(chunked) => {
                    self.ready.clear();
                    self.ready_at = 0;
                    let n = chunked.take(self.input.bytes(), &mut self.ready);
                    self.input.consume(n);
                    match chunked {
                        Chunked::End => self.body_ended(),
                        // The function is told; nothing that follows can be made sense of.
                        Chunked::Broken => self.state = State::Refused,
                        _ => {}
                    }
                }
                State::Raw => {
                    let n = cursor.remaining().min(self.input.len());
                    cursor.put_slice(&self.input.bytes()[..n]);
                    self.input.consume(n);
                    break;
                }
                State::Head { .. } | State::Refused => break,
            }
        }
        cursor.remaining() < before
    }

    fn body_ended(&mut self) {
        self.state = State::Head { from: 0 };
        self.read_alarm.off();
        self.traffic.body_ended();
    }

    /// `Ready` when writing should have been over by now.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(at) = self.traffic.cut() else { return Poll::Pending };
        self.cut_alarm.set_at(at);
        self.cut_alarm.poll(cx).map(|()| io::Error::new(io::ErrorKind::TimedOut, "write_timeout has passed"))
    }

    fn within_time<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match poll {
            Poll::Pending => self.poll_cut(cx).map(Err),
            ready => ready,
        }
    }

    /// Reads and forgets until the client has closed its side, for a moment.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.lingering.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if sleep.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while !self.ended {
            self.input.clear();
            match self.poll_fill(cx) {
                Ok(Poll::Ready(())) => {}
                Ok(Poll::Pending) => return Poll::Pending,
                Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl Read for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut cursor: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.hand_over(&mut cursor) {
                return Poll::Ready(Ok(()));
            }
            match this.state {
                State::Head { .. } if this.traffic.is_upgraded() => {
                    this.state = State::Raw;
                    this.read_alarm.off();
                }
                State::Head { .. } if this.traffic.is_busy() => return this.poll_hangup(cx),
                State::Head { .. } => {
                    if ready!(this.poll_head(cx))?.is_none() && !matches!(this.state, State::Refused) {
                        return Poll::Ready(Ok(()));
                    }
                }
                State::Refused if this.traffic.is_busy() => {
                    this.traffic.wake_when_written(cx.waker());
                    return Poll::Pending;
                }
                State::Refused => return Poll::Ready(Ok(())),
                _ if this.ended => {
                    // Whoever reads the body is told that it is not whole; the call counts as one that came too late.
                    if !matches!(this.state, State::Raw) {
                        this.traffic.set_late();
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Raw => ready!(this.poll_fill(cx)?),
                State::Counted(_) | State::Chunked(_) => ready!(this.poll_body(cx))?,
            }
        }
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.within_time(cx, poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        let poll = if length <= SMALL {
            let mut bytes = [0; SMALL];
            let mut rest = &mut bytes[..];
            for slice in slices {
                let (first, behind) = rest.split_at_mut(slice.len());
                first.copy_from_slice(slice);
                rest = behind;
            }
            Pin::new(&mut this.stream).poll_write(cx, &bytes[..length])
        } else {
            Pin::new(&mut this.stream).poll_write_vectored(cx, slices)
        };
        this.within_time(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has nothing to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while let Some(refusal) = this.refusal.take_if(|bytes| !bytes.is_empty()) {
            match Pin::new(&mut this.stream).poll_write(cx, &refusal) {
                Poll::Ready(written) => this.refusal = Some(refusal[written?..].to_vec()),
                Poll::Pending => {
                    this.refusal = Some(refusal);
                    return Poll::Pending;
                }
            }
        }
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        if this.refusal.is_some() || this.traffic.is_unread() || !this.input.is_empty() {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
