//! The weekly report: sums of sales, by week and country.

mod show;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::sale::{Fate, Sale};
use crate::job::money::{Currency, Money, Sums};

/// Sales of the last seven days, and of the seven before.
///
/// A week is seven times 24 hours up to the moment of the report, so that it can be compared with the one before on
/// whichever day and hour it is made. As JSON:
///
/// ```json
/// {"last_sale":{"at":"2026-11-21T09:00:00Z","product":"Pencil Icon PSD","country":"Germany",
///               "amount":{"amount":2499,"currency":"USD","text":"24.99 USD"}},
///  "week":{"from":"2026-11-14T12:00:00Z","to":"2026-11-21T12:00:00Z","sales":1,
///          "total":[{"amount":2499,"currency":"USD","text":"24.99 USD"}],
///          "by_country":[{"country":"Germany","sales":1,"total":[{"amount":2499,"currency":"USD","text":"24.99 USD"}]}]},
///  "week_before":{"from":"2026-11-07T12:00:00Z","to":"2026-11-14T12:00:00Z","sales":0,"total":[],"by_country":[]},
///  "change":[{"currency":"USD","difference":{"amount":2499,"currency":"USD","text":"24.99 USD"},"percent":null}],
///  "not_counted":{"refunded":0,"charged_back":0,"unreadable":0}}
/// ```
///
/// `amount` is in the currency's smallest unit; `percent` has one decimal, and is null when the week before had nothing to
/// compare with. Two currencies are never added.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    last_sale: Option<LastSale>,
    week: Week,
    week_before: Week,
    change: Vec<Change>,
    not_counted: NotCounted,
}

/// The newest sale that was not taken back, within the two weeks.
#[derive(Debug, Clone, Serialize)]
struct LastSale {
    at: Timestamp,
    product: Option<String>,
    country: Option<String>,
    amount: Money,
}

#[derive(Debug, Clone, Serialize)]
struct Week {
    /// The first moment that belongs to it.
    from: Timestamp,
    /// The first moment that doesn't.
    to: Timestamp,
    sales: u64,
    total: Sums,
    /// Most sales first; sales without a country last.
    by_country: Vec<Country>,
}

#[derive(Debug, Clone, Serialize)]
struct Country {
    country: Option<String>,
    sales: u64,
    total: Sums,
}

#[derive(Debug, Clone, Serialize)]
struct Change {
    currency: String,
    difference: Money,
    percent: Option<f64>,
}

/// Sales of the two weeks that are in no sum.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct NotCounted {
    refunded: u64,
    charged_back: u64,
    unreadable: u64,
}

const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The moment before which no sale matters to a report made `now`.
pub(super) fn start(now: Timestamp) -> Timestamp {
    (now.saturating_sub(WEEK).and_then(|week| week.saturating_sub(WEEK))).unwrap_or(Timestamp::MIN)
}

impl Report {
    /// Sums `sales` up as of `now`; `unreadable` more could not be read.
    pub(super) fn of(sales: &[Sale], unreadable: u64, now: Timestamp) -> Self {
        let turn = now.saturating_sub(WEEK).unwrap_or(Timestamp::MIN);
        let mut not_counted = NotCounted { unreadable, ..NotCounted::default() };
        let mut kept = Vec::new();
        for sale in sales.iter().filter(|sale| sale.at >= start(now) && sale.at < now) {
            match sale.fate {
                Fate::Kept => kept.push(sale),
                Fate::Refunded => not_counted.refunded += 1,
                Fate::ChargedBack => not_counted.charged_back += 1,
            }
        }
        let week = Week::of(turn, now, &kept);
        let week_before = Week::of(start(now), turn, &kept);
        Self {
            last_sale: kept.iter().max_by_key(|sale| sale.at).map(|sale| LastSale {
                at: sale.at,
                product: sale.product.clone(),
                country: sale.country.clone(),
                amount: sale.amount,
            }),
            change: changes(&week.total, &week_before.total),
            week,
            week_before,
            not_counted,
        }
    }
}

impl Week {
    fn of(from: Timestamp, to: Timestamp, kept: &[&Sale]) -> Self {
        let mut week = Self { from, to, sales: 0, total: Sums::default(), by_country: Vec::new() };
        let mut countries = BTreeMap::<Option<&str>, Country>::new();
        for sale in kept.iter().filter(|sale| sale.at >= from && sale.at < to) {
            week.sales += 1;
            week.total.add(sale.amount);
            let country = countries.entry(sale.country.as_deref()).or_insert_with(|| Country {
                country: sale.country.clone(),
                sales: 0,
                total: Sums::default(),
            });
            country.sales += 1;
            country.total.add(sale.amount);
        }
        week.by_country = countries.into_values().collect();
        // Stable, so that equals stay in the order of their names.
        week.by_country.sort_by_key(|country| (country.country.is_none(), std::cmp::Reverse(country.sales)));
        week
    }
}

/// One change for each currency that either week has.
fn changes(week: &Sums, before: &Sums) -> Vec<Change> {
    let mut currencies: Vec<Currency> = week.iter().chain(before.iter()).map(Money::currency).collect();
    currencies.sort_unstable();
    currencies.dedup();
    let change = |currency| {
        let (now, before) = (i128::from(week.of(currency).minor()), i128::from(before.of(currency).minor()));
        let difference = i64::try_from(now - before).unwrap_or(if now > before { i64::MAX } else { i64::MIN });
        Change {
            currency: currency.to_string(),
            difference: Money::new(difference, currency),
            percent: (before != 0).then(|| {
                // In tenths of a percent and whole numbers until the last step, so that 25 % is 25.0.
                let tenths = (now - before) * 1000 / before.abs();
                #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
                let percent = tenths as f64 / 10.0;
                percent
            }),
        }
    };
    currencies.into_iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: &str = "2026-11-21T12:00:00Z";

    pub(super) fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    pub(super) fn sale(at: &str, minor: i64, code: &str, country: Option<&str>) -> Sale {
        Sale {
            at: at.parse().unwrap(),
            product: Some("Pencil Icon PSD".into()),
            country: country.map(Into::into),
            amount: Money::new(minor, Currency::parse(code).unwrap()),
            fate: Fate::Kept,
        }
    }

    fn json_of(sales: &[Sale]) -> serde_json::Value {
        serde_json::to_value(Report::of(sales, 0, now())).unwrap()
    }

    #[test]
    fn the_report_is_the_documented_json() {
        let report = json_of(&[sale("2026-11-21T09:00:00Z", 2499, "USD", Some("Germany"))]);
        let usd = json!({"amount": 2499, "currency": "USD", "text": "24.99 USD"});
        assert_eq!(
            report,
            json!({
                "last_sale": {"at": "2026-11-21T09:00:00Z", "product": "Pencil Icon PSD", "country": "Germany", "amount": usd},
                "week": {"from": "2026-11-14T12:00:00Z", "to": NOW, "sales": 1, "total": [usd],
                    "by_country": [{"country": "Germany", "sales": 1, "total": [usd]}]},
                "week_before": {"from": "2026-11-07T12:00:00Z", "to": "2026-11-14T12:00:00Z", "sales": 0, "total": [],
                    "by_country": []},
                "change": [{"currency": "USD", "difference": usd, "percent": null}],
                "not_counted": {"refunded": 0, "charged_back": 0, "unreadable": 0}
            })
        );
    }

    #[test]
    fn a_moment_belongs_to_one_week_only() {
        let report = json_of(&[
            sale("2026-11-21T12:00:00Z", 1, "USD", None),      // now: not yet over
            sale("2026-11-14T12:00:00Z", 10, "USD", None),     // the first of this week
            sale("2026-11-14T11:59:59Z", 100, "USD", None),    // the last of the week before
            sale("2026-11-07T12:00:00Z", 1000, "USD", None),   // its first
            sale("2026-11-07T11:59:59Z", 10_000, "USD", None), // too old
        ]);
        assert_eq!(report["week"]["total"][0]["amount"], 10);
        assert_eq!(report["week_before"]["total"][0]["amount"], 1100);
        assert_eq!(report["last_sale"]["at"], "2026-11-14T12:00:00Z");
    }

    #[test]
    fn the_change_is_per_currency_and_never_divides_by_nothing() {
        let report = json_of(&[
            sale("2026-11-20T00:00:00Z", 1500, "USD", None),
            sale("2026-11-20T00:00:00Z", 700, "EUR", None),
            sale("2026-11-10T00:00:00Z", 1200, "USD", None),
            sale("2026-11-10T00:00:00Z", 900, "JPY", None),
        ]);
        let change: Vec<_> = report["change"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| (change["difference"]["text"].as_str().unwrap(), change["percent"].as_f64()))
            .collect();
        assert_eq!(change, [("7.00 EUR", None), ("-900 JPY", Some(-100.0)), ("3.00 USD", Some(25.0))]);
    }

    #[test]
    fn countries_come_with_most_sales_first_and_the_unknown_last() {
        let report = json_of(&[
            sale("2026-11-20T00:00:00Z", 1, "USD", None),
            sale("2026-11-20T00:00:00Z", 1, "USD", None),
            sale("2026-11-20T00:00:00Z", 1, "USD", Some("Norway")),
            sale("2026-11-20T00:00:00Z", 5, "USD", Some("Germany")),
            sale("2026-11-20T00:00:00Z", 7, "EUR", Some("Germany")),
            sale("2026-11-20T00:00:00Z", 1, "USD", Some("Chile")),
        ]);
        let countries = report["week"]["by_country"].as_array().unwrap();
        let names: Vec<_> = countries.iter().map(|country| country["country"].as_str()).collect();
        assert_eq!(names, [Some("Germany"), Some("Chile"), Some("Norway"), None]);
        assert_eq!(countries[0]["total"].as_array().unwrap().len(), 2, "two currencies are two sums");
    }
}
