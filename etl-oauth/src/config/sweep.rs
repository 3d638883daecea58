//! Variables for many accounts: what renews by itself, how much at once, how much of it in memory.

use std::time::Duration;

use token_keeper::renewal::{Limits, SweepOptions};

use super::parse::Strings;

/// What the variables say.
pub(super) struct Sweeping {
    /// `None` with `sweep=off`.
    pub(super) sweep: Option<SweepOptions>,
    /// By what part of a token's life its renewal may come earlier.
    pub(super) spread: f64,
    pub(super) limits: Limits,
}

pub(super) fn sweeping(strings: &mut Strings<'_>) -> Sweeping {
    let is_on = strings.choice("sweep", &[("on", true), ("off", false)]).unwrap_or(true);
    let interval = strings.parsed("sweep_interval", |text| match super::duration::parse(text) {
        Some(interval) if interval >= Duration::from_secs(1) => Ok(interval),
        _ => Err("is not a duration of a second or more, such as 30s".to_owned()),
    });
    let spread = strings.parsed("renew_spread", percent);
    let (cached, series) = (strings.parsed("cache_accounts", count), strings.parsed("metrics_accounts", any_count));
    let (mut options, mut limits) = (SweepOptions::default(), Limits::default());
    options.interval = interval.unwrap_or(options.interval);
    limits.cached = cached.unwrap_or(limits.cached);
    limits.series = series.unwrap_or(limits.series);
    // Without the sweeper a renewal is due when a caller needs it.
    let spread = if is_on { spread.unwrap_or(0.1) } else { 0.0 };
    Sweeping { sweep: is_on.then_some(options), spread, limits }
}

/// A percentage from 0 to 50.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    number
        .filter(|number| (0.0..=50.0).contains(number))
        .map(|number| number / 100.0)
        .ok_or_else(|| "is not a percentage from 0% to 50%, such as 10%".into())
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    any_count(text).ok().filter(|count| *count > 0).ok_or_else(|| "is not a number from 1".into())
}

fn any_count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "is not a number from 0".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Sweeping, Vec<String>) {
        let get = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let mut strings = Strings::new(&get);
        let read = sweeping(&mut strings);
        (read, strings.take_mistakes())
    }

    #[test]
    fn the_sweeper_is_on_unless_it_is_off() {
        let (read_one, mistakes) = read(&[]);
        assert_eq!(read_one.sweep, Some(SweepOptions::default()));
        assert!(mistakes.is_empty() && (read_one.spread - 0.1).abs() < 1e-9);
        assert_eq!(read_one.limits, Limits { cached: 10_000, series: 100 });
        let (off, _) = read(&[("sweep", "off"), ("renew_spread", "20%")]);
        assert!(off.sweep.is_none() && off.spread == 0.0);
        let (other, mistakes) = read(&[("sweep_interval", "5s"), ("renew_spread", "0%"), ("metrics_accounts", "0")]);
        let sweep = other.sweep.unwrap();
        assert_eq!((sweep.interval, other.limits.series), (Duration::from_secs(5), 0));
        assert!(other.spread == 0.0 && mistakes.is_empty());
    }

    #[test]
    fn each_mistake_names_its_variable() {
        let wrong = [
            ("sweep", "yes"),
            ("sweep_interval", "10ms"),
            ("renew_spread", "60%"),
            ("cache_accounts", "-1"),
            ("metrics_accounts", "many"),
        ];
        let (_, mistakes) = read(&wrong);
        assert_eq!(mistakes.len(), wrong.len(), "{mistakes:?}");
        assert!(wrong.iter().zip(&mistakes).all(|((name, _), mistake)| mistake.starts_with(name)), "{mistakes:?}");
    }
}
