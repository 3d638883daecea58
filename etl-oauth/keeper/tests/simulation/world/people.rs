//! What people do: they authorise an account that asks for it. No other account waits for them (H16).

use token_keeper::{
    renewal::Reason,
    token::{AnswerShape, Health},
};

use super::{Happening, TROUBLE, World, stamp};
use crate::provider::Habit;

impl World {
    pub(super) fn authorise(&mut self, account: usize) {
        let lifetime = self.lifetime();
        let body = self.grants[account].consent(lifetime);
        let answer = AnswerShape::default().read(body.as_bytes()).expect("a token answer");
        let stored = self.slots[account].load(None);
        let base = stored.as_ref().map(|stored| stored.record.clone()).unwrap_or_default();
        let record = base.authorised(answer, stamp(self.now), None);
        let was = stored.map(|stored| stored.version);
        self.slots[account].save(&record, was.as_ref()).expect("read and written at once");
        self.judges[account].person();
        let verdict = self.judges[account].written(None, &record, &self.grants[account], self.now, true);
        self.hold(verdict);
        self.trace(|_| format!("a person authorises account {account}: {body}"));
    }

    /// Looks now and then whether somebody is wanted; where nobody ever is, an operator renews for no reason.
    pub(super) fn person(&mut self, account: usize) {
        let health = self.slots[account].record().map(|record| record.health.clone()).unwrap_or_default();
        let Health { needs_authorisation, .. } = health;
        if needs_authorisation {
            self.authorise(account);
        } else if self.habit == Habit::Asks {
            let replica = self.rng.usize(0..self.replicas.len());
            let now = self.now;
            let it = &self.replicas[replica];
            if it.up && it.asleep_until <= now && it.desks[account].is_free(now) {
                let generation = self.slots[account].record().map_or(0, |record| record.generation);
                self.judges[account].person();
                self.start(replica, account, Reason::Asked { generation });
            }
        }
        let later = if self.now < TROUBLE { 60_000..300_000 } else { 300_000..600_000 };
        let later = self.rng.i64(later);
        self.after(later, Happening::Person(account));
    }
}
