//! The wall clock as the log writes it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since 1970. A clock before that is a broken one; the log goes on with the epoch.
pub(crate) fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// UTC now, by parts.
pub(crate) struct Utc {
    pub(crate) year: i64,
    pub(crate) month: u32,
    pub(crate) day: u32,
    pub(crate) hour: u64,
    pub(crate) minute: u64,
    pub(crate) second: u64,
    pub(crate) micros: u32,
}

impl Utc {
    pub(crate) fn now() -> Self {
        Self::at(unix())
    }

    pub(crate) fn at(since: Duration) -> Self {
        let (seconds, micros) = (since.as_secs(), since.subsec_micros());
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days.cast_signed());
        Self { year, month, day, hour: rest / 3600, minute: rest / 60 % 60, second: rest % 60, micros }
    }
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar; counts in years that
/// begin in March, so that the leap day is the last one.
fn civil(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    // Both are small and positive: a month is 1 to 12, a day 1 to 31.
    (year, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_become_dates() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_454, (2026, 1, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(days), date, "{days}");
        }
    }
}
