//! One sale, read leniently out of the API's answer.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::super::money::{Currency, Money};

/// What the report needs of a sale.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sale {
    pub(super) at: Timestamp,
    pub(super) product: Option<String>,
    pub(super) country: Option<String>,
    pub(super) amount: Money,
    pub(super) fate: Fate,
}

/// Whether the money stayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It did, or some of it: then the amount is what is left.
    Kept,
    Refunded,
    ChargedBack,
}

impl Sale {
    /// Reads a sale. Fields that are missing, null or of another type than documented are done without; only a sale
    /// without a time or an amount is none.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let fields = value.as_object()?;
        Some(Self {
            at: text(fields, "created_at")?.parse().ok()?,
            product: text(fields, "product_name"),
            country: text(fields, "country"),
            amount: amount(fields)?,
            fate: match () {
                // The field of a chargeback that was won is false again.
                () if truth(fields, "chargedback") => Fate::ChargedBack,
                () if truth(fields, "refunded") => Fate::Refunded,
                () => Fate::Kept,
            },
        })
    }
}

/// What the seller got, in the currency of the product.
///
/// `price` is in US cents whatever the product's currency is: Gumroad converts on the day of the sale. So the amount of a
/// sale in another currency is read from `formatted_total_price`, which Gumroad always sends. From an API that speaks
/// Gumroad's language but leaves that out, `price` is taken to be in the currency that the sale names.
fn amount(fields: &Map<String, Value>) -> Option<Money> {
    let currency = currency(fields);
    if truth(fields, "partially_refunded") {
        let left = text(fields, "amount_refundable_in_currency").and_then(|left| Money::read(&left, currency));
        if left.is_some() {
            return left;
        }
    }
    let price = integer(fields, "price").map(|minor| Money::new(minor, currency));
    let formatted = || text(fields, "formatted_total_price").and_then(|words| Money::read(&words, currency));
    if currency == Currency::USD { price.or_else(formatted) } else { formatted().or(price) }
}

/// The currency a sale names, by code where it has one, else by Gumroad's symbol; US dollars when it names none.
fn currency(fields: &Map<String, Value>) -> Currency {
    // Gumroad's own list of currencies; "$" alone is the US dollar there, and "¥" the yen.
    const SYMBOLS: [(&str, &str); 18] = [
        ("£", "GBP"),
        ("€", "EUR"),
        ("¥", "JPY"),
        ("₹", "INR"),
        ("A$", "AUD"),
        ("CAD$", "CAD"),
        ("HK$", "HKD"),
        ("SGD$", "SGD"),
        ("NT$", "TWD"),
        ("NZ$", "NZD"),
        ("R$", "BRL"),
        ("₪", "ILS"),
        ("₱", "PHP"),
        ("₩", "KRW"),
        ("zł", "PLN"),
        ("Kč", "CZK"),
        ("$", "USD"),
        ("US$", "USD"),
    ];
    let code = text(fields, "currency").and_then(|code| Currency::parse(&code));
    let symbol = || {
        let symbol = text(fields, "currency_symbol")?;
        let code = SYMBOLS.iter().find(|(known, _)| *known == symbol).map_or(symbol.as_str(), |(_, code)| code);
        Currency::parse(code)
    };
    code.or_else(symbol).unwrap_or(Currency::USD)
}

/// A field as words: trimmed, and nothing when it is empty.
fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    let text = match fields.get(name)? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn integer(fields: &Map<String, Value>, name: &str) -> Option<i64> {
    match fields.get(name)? {
        Value::Number(number) => number.as_i64(),
        Value::String(digits) => digits.trim().parse().ok(),
        _ => None,
    }
}

fn truth(fields: &Map<String, Value>, name: &str) -> bool {
    match fields.get(name) {
        Some(Value::Bool(truth)) => *truth,
        Some(Value::String(word)) => word == "true" || word == "1",
        Some(Value::Number(number)) => number.as_i64() == Some(1),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The sale of Gumroad's documentation, with `changes` laid over it.
    fn sale(changes: &Value) -> Option<Sale> {
        let mut sale = json!({
            "id": "B28UKN-dvxYabdavG97Y-Q==", "email": "calvin@gumroad.com", "timestamp": "about 2 months ago",
            "daystamp": " 5 Jan 2021 11:38 AM", "created_at": "2021-01-05T19:38:56Z", "product_name": "Pencil Icon PSD",
            "price": 1000, "gumroad_fee": 60, "subscription_duration": "monthly",
            "formatted_display_price": "$10 a month", "formatted_total_price": "$10 a month", "currency_symbol": "$",
            "amount_refundable_in_currency": "0", "partially_refunded": false, "chargedback": false,
            "country": "United States", "paid": false, "order_id": 524_459_995, "disputed": false
        });
        for (name, value) in changes.as_object().unwrap() {
            sale[name] = value.clone();
        }
        Sale::read(&sale)
    }

    #[test]
    fn the_documented_sale_is_read() {
        let read = sale(&json!({})).unwrap();
        assert_eq!(read.at.to_string(), "2021-01-05T19:38:56Z");
        assert_eq!(read.product.as_deref(), Some("Pencil Icon PSD"));
        assert_eq!(read.country.as_deref(), Some("United States"));
        assert_eq!(read.amount.to_string(), "10.00 USD");
        assert_eq!(read.fate, Fate::Kept);
    }

    #[test]
    fn the_amount_is_in_the_currency_of_the_sale() {
        for (changes, shown) in [
            (json!({"price": 2499}), "24.99 USD"),
            (json!({"price": "2499"}), "24.99 USD"),
            (json!({"price": 2499, "currency_symbol": null}), "24.99 USD"),
            // US cents, beside the price in the product's own currency.
            (json!({"price": 1085, "currency_symbol": "€", "formatted_total_price": "€10"}), "10.00 EUR"),
            (json!({"price": 1015, "currency_symbol": "¥", "formatted_total_price": "¥1,500"}), "1500 JPY"),
            (json!({"price": 730, "currency_symbol": "CAD$", "formatted_total_price": "CAD$9.99"}), "9.99 CAD"),
            (json!({"price": 730, "currency_symbol": "CHF", "formatted_total_price": "CHF6.50"}), "6.50 CHF"),
            (json!({"price": 730, "currency": "gbp", "formatted_total_price": "£5"}), "5.00 GBP"),
            (json!({"price": 1999, "currency_symbol": "€", "formatted_total_price": null}), "19.99 EUR"),
            (json!({"price": null}), "10.00 USD"),
            (json!({"price": 0, "formatted_total_price": "$0"}), "0.00 USD"),
        ] {
            assert_eq!(sale(&changes).unwrap().amount.to_string(), shown, "{changes}");
        }
    }

    #[test]
    fn of_a_partial_refund_the_rest_counts() {
        let read = sale(&json!({"partially_refunded": true, "amount_refundable_in_currency": "7.50"})).unwrap();
        assert_eq!((read.amount.to_string().as_str(), read.fate), ("7.50 USD", Fate::Kept));
        let unsaid = sale(&json!({"partially_refunded": true, "amount_refundable_in_currency": null})).unwrap();
        assert_eq!(unsaid.amount.to_string(), "10.00 USD");
    }

    #[test]
    fn money_that_went_back_is_told_from_money_that_stayed() {
        for (changes, fate) in [
            (json!({"refunded": true}), Fate::Refunded),
            (json!({"refunded": "true"}), Fate::Refunded),
            (json!({"refunded": null}), Fate::Kept),
            (json!({"chargedback": true}), Fate::ChargedBack),
            (json!({"disputed": true, "dispute_won": true}), Fate::Kept),
        ] {
            assert_eq!(sale(&changes).unwrap().fate, fate, "{changes}");
        }
    }

    #[test]
    fn only_a_sale_without_time_or_amount_is_none() {
        assert!(sale(&json!({"product_name": null, "country": "", "currency_symbol": 7, "order_id": {}})).is_some());
        assert_eq!(sale(&json!({"created_at": null})), None);
        assert_eq!(sale(&json!({"created_at": "yesterday"})), None);
        assert_eq!(sale(&json!({"price": null, "formatted_total_price": "free"})), None);
        assert_eq!(Sale::read(&json!("sale")), None);
    }
}
