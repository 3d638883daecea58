//! The report in words: as text, as a page, as a message.

use std::fmt::Write;

use askama::Template;

use super::{Change, Country, LastSale, NotCounted, Report};
use crate::format::{LONGEST, count, cut, filters, moment};
use crate::job::{JobError, Message, Outcome};

/// A mail brings its own.
const STYLE: &str = "<style>body { font-family: sans-serif } th, td { padding: 0.2em 0.8em; text-align: left } \
                     .number { text-align: right }</style>";

impl Report {
    /// The report as plain text, for a mail or a chat message.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "Sales from {} to {}", moment(self.week.from), moment(self.week.to))?;
        writeln!(text)?;
        match &self.last_sale {
            Some(last) => {
                writeln!(text, "Last sale: {}, {}, {}", last.amount, cut(last.product(), LONGEST), moment(last.at))?;
            }
            None => writeln!(text, "No sale in the last 14 days.")?,
        }
        writeln!(text, "This week: {} ({})", self.week.total, count(self.week.sales, "sale"))?;
        writeln!(text, "Week before: {} ({})", self.week_before.total, count(self.week_before.sales, "sale"))?;
        for change in &self.change {
            writeln!(text, "Change: {}", change.words())?;
        }
        let countries = self.countries();
        if !countries.is_empty() {
            writeln!(text, "\nBy country")?;
        }
        for row in countries {
            let sum = |country: Option<&Country>| {
                country.map_or("nothing".into(), |it| format!("{} ({})", it.total, count(it.sales, "sale")))
            };
            writeln!(text, "  {}: {}; week before: {}", cut(row.name(), LONGEST), sum(row.week), sum(row.before))?;
        }
        if let Some(words) = self.not_counted.words() {
            writeln!(text, "\n{words}")?;
        }
        Ok(())
    }

    /// The countries of both weeks, those of this week first.
    fn countries(&self) -> Vec<Row<'_>> {
        let of = |week: &'_ [Country], wanted: &Country| week.iter().position(|it| it.country == wanted.country);
        let (week, before) = (&self.week.by_country, &self.week_before.by_country);
        let now = week.iter().map(|it| Row { week: Some(it), before: of(before, it).map(|at| &before[at]) });
        let gone = before.iter().filter(|it| of(week, it).is_none());
        now.chain(gone.map(|it| Row { week: None, before: Some(it) })).collect()
    }

    /// The report as a message to people.
    pub(in crate::job::gumroad) fn message(&self, outcome: &Outcome) -> Message {
        let total = cut(&self.week.total.to_string(), LONGEST);
        let subject = format!("Your week on Gumroad: {total} ({})", count(self.week.sales, "sale"));
        let html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Your week on Gumroad</title>{STYLE}</head>\n\
             <body>\n{}</body>\n</html>\n",
            outcome.html
        );
        Message { subject, text: outcome.text.clone(), html }
    }

    /// The report for every reader.
    ///
    /// # Errors
    /// [`JobError::Show`], should the template fail.
    pub fn outcome(&self) -> Result<Outcome, JobError> {
        Ok(Outcome {
            json: serde_json::to_value(self).map_err(|_| askama::Error::Fmt)?,
            html: Fragment { report: self }.render()?,
            text: self.text(),
        })
    }
}

#[derive(Template)]
#[template(path = "job/gumroad.html")]
struct Fragment<'a> {
    report: &'a Report,
}

impl LastSale {
    fn product(&self) -> &str {
        self.product.as_deref().unwrap_or("a product without a name")
    }
}

/// A country in this week and in the one before; it is in one of them at least.
struct Row<'a> {
    week: Option<&'a Country>,
    before: Option<&'a Country>,
}

impl Row<'_> {
    fn name(&self) -> &str {
        self.week.or(self.before).and_then(|it| it.country.as_deref()).unwrap_or("Country not known")
    }

    fn both(&self) -> [Option<&Country>; 2] {
        [self.week, self.before]
    }

    fn sales(&self) -> u64 {
        self.week.map_or(0, |it| it.sales)
    }
}

impl Change {
    /// The class of its arrow.
    fn direction(&self) -> &'static str {
        match self.difference.minor() {
            ..0 => "down",
            0 => "",
            _ => "up",
        }
    }

    fn arrow(&self) -> &'static str {
        match self.difference.minor() {
            ..0 => "▼",
            0 => "=",
            _ => "▲",
        }
    }

    /// "+5.00 USD (+25 %)"
    fn words(&self) -> String {
        let sign = if self.difference.minor() > 0 { "+" } else { "" };
        match self.percent {
            Some(percent) => format!("{sign}{} ({sign}{percent} %)", self.difference),
            None => format!("{sign}{} (nothing the week before)", self.difference),
        }
    }
}

impl NotCounted {
    fn words(&self) -> Option<String> {
        let parts = [
            (self.refunded, "refunded"),
            (self.charged_back, "charged back"),
            (self.unreadable, "without a readable date or amount"),
        ];
        let parts: Vec<_> =
            parts.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}")).collect();
        (!parts.is_empty()).then(|| format!("Not counted in these two weeks: {}.", parts.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{now, sale};
    use super::*;
    use crate::job::gumroad::sale::{Fate, Sale};

    #[test]
    fn money_taken_back_is_in_no_sum_and_is_said() {
        let refunded = Sale { fate: Fate::Refunded, ..sale("2026-11-21T11:00:00Z", 500, "USD", None) };
        let charged = Sale { fate: Fate::ChargedBack, ..refunded.clone() };
        let report = Report::of(&[refunded, charged.clone(), charged], 4, now());
        assert_eq!(report.week.sales, 0);
        assert!(report.last_sale.is_none());
        assert!(report.text().ends_with(
            "Not counted in these two weeks: 1 refunded, 2 charged back, 4 without a readable date or amount.\n"
        ));
    }

    #[test]
    fn the_text_says_all_of_it_in_lines() {
        let text = Report::of(
            &[
                sale("2026-11-21T09:00:00Z", 2499, "USD", Some("Germany")),
                sale("2026-11-10T09:00:00Z", 1249, "USD", Some("Chile")),
            ],
            0,
            now(),
        )
        .text();
        assert_eq!(
            text,
            "Sales from 14 Nov 2026, 12:00 UTC to 21 Nov 2026, 12:00 UTC\n\n\
             Last sale: 24.99 USD, Pencil Icon PSD, 21 Nov 2026, 09:00 UTC\n\
             This week: 24.99 USD (1 sale)\nWeek before: 12.49 USD (1 sale)\nChange: +12.50 USD (+100 %)\n\n\
             By country\n  Germany: 24.99 USD (1 sale); week before: nothing\n\
             \x20 Chile: nothing; week before: 12.49 USD (1 sale)\n"
        );
    }

    #[test]
    fn no_sales_are_a_report_too() {
        let report = Report::of(&[], 0, now());
        assert!(report.text().contains("No sale in the last 14 days."));
        assert!(report.outcome().unwrap().html.contains("No sale in the last 14 days"));
    }

    #[test]
    fn words_of_the_provider_cannot_break_out_of_line_or_page() {
        let mut evil = sale("2026-11-21T09:00:00Z", 1, "USD", Some("<b>\nx"));
        evil.product = Some("<script>alert('1')</script>\r\nBcc: all".into());
        let outcome = Report::of(&[evil], 0, now()).outcome().unwrap();
        assert!(!outcome.html.contains("<script"), "{}", outcome.html);
        assert!(!outcome.html.contains("<b>"), "{}", outcome.html);
        assert!(!outcome.text.contains("\nBcc"), "{}", outcome.text);
    }
}
