use std::time::Duration;

use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

use super::{JobError, JobState};
use token_keeper::store::{Acquired, ByteStore, StoreError};

/// The longest pause between two looks at whether another run's turn is over.
const PAUSE: Duration = Duration::from_secs(1);

/// An account's turn: no other run, by whatever replica, has it meanwhile. It is a lease in the store of ledgers, which is
/// prolonged while this or a clone of it lives, and given back after the last of them.
#[derive(Clone, Debug)]
pub struct Turn(watch::Receiver<Instant>);

impl Turn {
    /// Whether it still holds: what must not be done twice side by side asks right before.
    ///
    /// # Errors
    /// [`JobError::Overtaken`] when it was lost: this process stood still, or the store was out of reach, for longer than
    /// the lease.
    pub fn check(&self) -> Result<(), JobError> {
        if Instant::now() < *self.0.borrow() { Ok(()) } else { Err(JobError::Overtaken) }
    }
}

impl JobState {
    /// Takes the account's turn, of which a silent holder loses its own after `lease`. Waits for so long, and not for a run
    /// that lives.
    ///
    /// # Errors
    /// [`JobError::Busy`] where another run has it, and when the store fails.
    pub async fn turn(&self, lease: Duration) -> Result<Turn, JobError> {
        let mut salt = [0; 8];
        let random = aws_lc_rs::rand::fill(&mut salt);
        random.map_err(|_| StoreError::unavailable("there is no randomness to name this run with"))?;
        // A run, not a replica: two runs of one process are as bad as those of two.
        let owner = format!("run-{:016x}", u64::from_le_bytes(salt));
        // Some stores know no time: there a holder is silent when it was looked at for a whole lease.
        let deadline = Instant::now() + lease + lease / 2;
        let mut pause = Duration::from_millis(20);
        let until = loop {
            let asked_at = Instant::now();
            match self.acquire(&owner, lease).await? {
                Acquired::Until(_) => break asked_at + lease,
                Acquired::Busy if asked_at >= deadline => return Err(JobError::Busy),
                Acquired::Busy => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(PAUSE);
        };
        let (keeping, turn) = watch::channel(until);
        tokio::spawn(token_keeper::trace_context::carry(self.clone().keep(owner, lease, keeping)));
        Ok(Turn(turn))
    }

    /// Prolongs a turn until its last holder has dropped it.
    async fn keep(self, owner: String, lease: Duration, until: watch::Sender<Instant>) {
        let mut ticks = tokio::time::interval((lease / 3).max(Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = until.closed() => break,
                _ = ticks.tick() => {}
            }
            let asked_at = Instant::now();
            // Once it has run out, another run may have been there and gone: it is not taken up again.
            if asked_at >= *until.borrow() {
                break;
            }
            match self.acquire(&owner, lease).await {
                Ok(Acquired::Until(_)) => drop(until.send_replace(asked_at + lease)),
                Ok(Acquired::Busy) => drop(until.send_replace(asked_at)),
                // The store may be back before it runs out.
                Err(_) => {}
            }
        }
        // A release that does not arrive costs the next run the rest of the lease, no more.
        let _ = self.store.release(&self.key, &owner).await;
    }

    async fn acquire(&self, owner: &str, lease: Duration) -> Result<Acquired, StoreError> {
        self.store.acquire(&self.key, owner, lease, Timestamp::now()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use token_keeper::store::{Key, Kind, Memory, Store};

    const LEASE: Duration = Duration::from_millis(500);

    fn ledger(memory: &Memory) -> JobState {
        JobState::new(Arc::new(Store::Memory(memory.clone())), &Key::default())
    }

    #[tokio::test]
    async fn one_run_at_a_time_has_the_turn_for_as_long_as_it_lives() {
        let memory = Memory::default();
        // Two replicas.
        let (one, other) = (ledger(&memory), ledger(&memory));
        let turn = one.turn(LEASE).await.unwrap();
        // It outlives its lease, because it is prolonged; a waiting run gives up.
        assert!(matches!(other.turn(LEASE).await, Err(JobError::Busy)));
        let clone = turn.clone();
        drop(turn);
        assert!(matches!(other.turn(LEASE).await, Err(JobError::Busy)));
        clone.check().unwrap();
        drop(clone);
        other.turn(LEASE).await.unwrap().check().unwrap();
    }

    #[tokio::test]
    async fn a_run_that_died_is_waited_for_and_no_longer_than_its_lease() {
        let memory = Memory::default();
        memory.acquire(&Key::default().of_kind(Kind::JOB), "run-dead", LEASE, Timestamp::now()).await.unwrap();
        ledger(&memory).turn(LEASE).await.unwrap().check().unwrap();
    }

    #[tokio::test]
    async fn a_turn_that_ran_out_is_lost_though_nobody_else_has_it() {
        let memory = Memory::default();
        let turn = ledger(&memory).turn(LEASE).await.unwrap();
        memory.fail(true);
        let mut until = turn.0.clone();
        // The keeper of the turn gives it up.
        while until.changed().await.is_ok() {}
        memory.fail(false);
        assert!(matches!(turn.check(), Err(JobError::Overtaken)));
    }
}
