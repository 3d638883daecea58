//! A time limit that is moved far more often than it is reached.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// The timer behind it is only touched when it has run out too early, or another task asks.
#[derive(Default)]
pub(crate) struct Alarm {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// The task that the timer will wake.
    waker: Option<Waker>,
}

impl Alarm {
    pub(crate) fn set(&mut self, since: Instant, limit: Option<Duration>) {
        self.at = limit.and_then(|limit| since.checked_add(limit));
    }

    pub(crate) fn set_at(&mut self, at: Instant) {
        self.at = Some(at);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.at.is_some()
    }

    pub(crate) fn off(&mut self) {
        self.at = None;
    }

    /// Makes sure that the task is woken within `limit`, although the alarm is off. `limit` is the one that the alarm is
    /// set with, always.
    pub(crate) fn keep_going(&mut self, cx: &mut Context<'_>, limit: Option<Duration>) {
        let Some(limit) = limit else { return };
        // A timer that runs was made for `limit` after some moment that has passed: it rings in time.
        if self.will_wake(cx) {
            return;
        }
        let Some(at) = Instant::now().checked_add(limit) else { return };
        while self.poll_timer(cx, at).is_ready() {
            if let Some(timer) = &mut self.timer {
                timer.as_mut().reset(at);
            }
            self.waker = None;
        }
    }

    /// `Ready` when its time has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        loop {
            ready!(self.poll_timer(cx, at));
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            if let Some(timer) = &mut self.timer {
                timer.as_mut().reset(at);
            }
            self.waker = None;
        }
    }

    /// Waits for the timer, which is made for `at` if there is none, or for an earlier time.
    fn poll_timer(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
            self.waker = None;
        }
        if self.will_wake(cx) {
            return Poll::Pending;
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        let poll = timer.as_mut().poll(cx);
        self.waker = poll.is_pending().then(|| cx.waker().clone());
        poll
    }

    /// Whether the timer runs, and will wake this task.
    fn will_wake(&self, cx: &Context<'_>) -> bool {
        let is_known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        is_known && self.timer.as_ref().is_some_and(|timer| !timer.is_elapsed())
    }
}
