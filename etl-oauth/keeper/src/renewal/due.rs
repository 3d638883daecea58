//! When a record has to be looked at again, whether or not anyone calls: what the store's index holds of it.

use jiff::Timestamp;

use super::Policy;
use crate::token::Record;

impl Policy {
    /// The earliest of: the next renewal or the next try after a failure, a notification that another replica has to
    /// deliver, a device authorisation that another replica has to go on with.
    #[must_use]
    pub fn look_at(&self, record: &Record) -> Option<Timestamp> {
        let notification = record.untold.as_ref().map(|untold| untold.again_at);
        let device = record.device.as_ref().filter(|device| device.failure.is_none()).map(|device| device.asked_until);
        [self.next_renewal_at(record), notification, device].into_iter().flatten().min()
    }

    /// When the next renewal is due by itself; `None` where a person has to act first.
    #[must_use]
    pub fn next_renewal_at(&self, record: &Record) -> Option<Timestamp> {
        if record.health.needs_authorisation {
            return None;
        }
        record.health.next_try_at.or_else(|| self.due_at(record))
    }
}
