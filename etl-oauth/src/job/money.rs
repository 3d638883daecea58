//! Amounts of money: whole numbers of a currency's smallest unit, and never two currencies in one sum.

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// A currency's ISO 4217 code, in upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// An amount in the smallest unit of its currency: cents, and whole yen.
///
/// ```
/// use etl_oauth::job::{Currency, Money};
///
/// assert_eq!(Money::new(2499, Currency::USD).to_string(), "24.99 USD");
/// assert_eq!(Money::new(-1500, Currency::parse("jpy").unwrap()).to_string(), "-1500 JPY");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

/// Sums, each in its own currency, in the order of the currencies' codes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums(BTreeMap<Currency, i64>);

impl Currency {
    /// The US dollar.
    pub const USD: Self = Self(*b"USD");

    /// Reads a code of three letters, in either case.
    pub fn parse(code: &str) -> Option<Self> {
        let letters: [u8; 3] = code.trim().as_bytes().try_into().ok()?;
        letters.iter().all(u8::is_ascii_alphabetic).then(|| Self(letters.map(|letter| letter.to_ascii_uppercase())))
    }

    /// Decimal places as ISO 4217 has them: 2 for most currencies, 0 for the yen, 3 for the Kuwaiti dinar; 2 for a code that
    /// it does not list.
    fn places(self) -> u32 {
        let listed = iso_currency::Currency::from_code(&self.to_string());
        listed.and_then(iso_currency::Currency::exponent).map_or(2, u32::from)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Money {
    /// An amount in `currency`'s smallest unit.
    pub fn new(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Reads the first number in words for people ("€1,234.50 a month"), with a point before the decimals and commas
    /// between thousands. Nothing, when there is no number, or one with more decimals than the currency has.
    pub fn read(words: &str, currency: Currency) -> Option<Self> {
        let start = words.find(|c: char| c.is_ascii_digit())?;
        let number: String = words[start..]
            .chars()
            .take_while(|c| c.is_ascii_digit() || matches!(c, ',' | '.'))
            .filter(|c| *c != ',')
            .collect();
        if words[..start].ends_with('.') {
            return None;
        }
        // "10." ends a sentence.
        let number = number.trim_end_matches('.');
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let places = currency.places();
        let missing = places.checked_sub(u32::try_from(decimals.len()).ok()?)?;
        let minor: i64 = format!("{whole}{decimals}").parse().ok()?;
        let negative = words[..start].ends_with('-') || words[..start].trim_start().starts_with('-');
        let minor = minor.checked_mul(10_i64.pow(missing))?;
        Some(Self { minor: if negative { -minor } else { minor }, currency })
    }

    /// The amount in the currency's smallest unit.
    pub fn minor(self) -> i64 {
        self.minor
    }

    /// The currency.
    pub fn currency(self) -> Currency {
        self.currency
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.minor < 0 { "-" } else { "" };
        let minor = self.minor.unsigned_abs();
        match self.currency.places() {
            0 => write!(f, "{sign}{minor} {}", self.currency),
            places => {
                let (one, width) = (10_u64.pow(places), places as usize);
                write!(f, "{sign}{}.{:0width$} {}", minor / one, minor % one, self.currency)
            }
        }
    }
}

/// `{"amount":2499,"currency":"USD","text":"24.99 USD"}`: `amount` is in the currency's smallest unit.
impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Money", 3)?;
        fields.serialize_field("amount", &self.minor)?;
        fields.serialize_field("currency", &self.currency.to_string())?;
        fields.serialize_field("text", &self.to_string())?;
        fields.end()
    }
}

impl Sums {
    /// Adds an amount to the sum of its currency.
    pub fn add(&mut self, money: Money) {
        let sum = self.0.entry(money.currency).or_default();
        *sum = sum.saturating_add(money.minor);
    }

    /// The sum in `currency`, 0 when nothing was added.
    pub fn of(&self, currency: Currency) -> Money {
        Money::new(self.0.get(&currency).copied().unwrap_or_default(), currency)
    }

    /// Every sum, by currency code.
    pub fn iter(&self) -> impl Iterator<Item = Money> {
        self.0.iter().map(|(currency, minor)| Money::new(*minor, *currency))
    }
}

impl Serialize for Sums {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// "10.00 EUR, 24.99 USD", or "0" when nothing was added.
impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("0");
        }
        for (nth, money) in self.iter().enumerate() {
            write!(f, "{}{money}", if nth == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_(code: &str) -> Currency {
        Currency::parse(code).unwrap()
    }

    #[test]
    fn cents_are_shown_with_a_point_and_two_digits() {
        for (minor, shown) in
            [(2499, "24.99 USD"), (5, "0.05 USD"), (0, "0.00 USD"), (-5, "-0.05 USD"), (100_000, "1000.00 USD")]
        {
            assert_eq!(Money::new(minor, Currency::USD).to_string(), shown);
        }
        assert_eq!(Money::new(i64::MIN, Currency::USD).to_string(), "-92233720368547758.08 USD");
    }

    #[test]
    fn a_currency_without_cents_has_no_point() {
        assert_eq!(Money::new(1500, in_("JPY")).to_string(), "1500 JPY");
    }

    #[test]
    fn dinars_have_three_decimal_places() {
        for (words, code, minor, shown) in [
            ("1.250", "KWD", 1250, "1.250 KWD"),
            ("0.005", "BHD", 5, "0.005 BHD"),
            ("12", "KWD", 12_000, "12.000 KWD"),
            ("3", "ISK", 3, "3 ISK"),
            ("3", "XYZ", 300, "3.00 XYZ"),
        ] {
            let money = Money::read(words, in_(code)).unwrap();
            assert_eq!((money.minor(), &*money.to_string()), (minor, shown), "{words} {code}");
        }
        assert_eq!(Money::read("1.2505", in_("KWD")), None);
    }

    #[test]
    fn words_for_people_are_read() {
        for (words, code, minor) in [
            ("$10 a month", "USD", 1000),
            ("$24.99", "USD", 2499),
            ("€1,234.50", "EUR", 123_450),
            ("¥1,500", "JPY", 1500),
            ("₩15,000", "KRW", 15_000),
            ("1.5 zł", "PLN", 150),
            ("-£3", "GBP", -300),
            ("CHF12 every 2 years", "CHF", 1200),
        ] {
            assert_eq!(Money::read(words, in_(code)), Some(Money::new(minor, in_(code))), "{words}");
        }
    }

    #[test]
    fn words_without_a_sound_number_are_not_read() {
        for words in ["", "free", "$", "$1.234", "$1.2.3", "$.50", "$99999999999999999999"] {
            assert_eq!(Money::read(words, Currency::USD), None, "{words}");
        }
        assert_eq!(Money::read("¥1.50", in_("JPY")), None);
    }

    #[test]
    fn codes_are_three_letters() {
        assert_eq!(in_(" usd "), Currency::USD);
        for code in ["", "us", "usdd", "u$d", "€"] {
            assert_eq!(Currency::parse(code), None, "{code}");
        }
    }

    #[test]
    fn two_currencies_are_never_added() {
        let mut sums = Sums::default();
        assert_eq!(sums.to_string(), "0");
        for (minor, code) in [(100, "USD"), (200, "EUR"), (50, "USD")] {
            sums.add(Money::new(minor, in_(code)));
        }
        assert_eq!(sums.to_string(), "2.00 EUR, 1.50 USD");
        assert_eq!(sums.of(in_("GBP")).minor(), 0);
    }
}
