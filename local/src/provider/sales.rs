//! The shop whose sales the API shows: the same for everybody who asks at the same time, and always with sales of this
//! week and of the week before.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::Serialize;

/// `seller_id` of every sale, and `user_id` of the token's account.
const SELLER: &str = "kL0psVL2admJSYRNs-OCMg==";

/// The shop opened so many days ago.
const DAYS: i64 = 35;

struct Product {
    id: &'static str,
    permalink: &'static str,
    name: &'static str,
    cents: u32,
}

const PRODUCTS: [Product; 4] = [
    Product { id: "A-m3CDDC5dlrSdKZp0RFhA==", permalink: "pencil", name: "Pencil Icon", cents: 2499 },
    Product { id: "32-nPAicqbLj8B_WswVlMw==", permalink: "field-notes", name: "Field Notes", cents: 900 },
    Product { id: "bfi_30HLgGWL8H2wo_Gzlg==", permalink: "typefaces", name: "Typefaces for Makers", cents: 4900 },
    Product { id: "_o1eMHyVrLo1HVqaTyEk9Q==", permalink: "loops", name: "Ambient Loops", cents: 1250 },
];

struct Place {
    country: &'static str,
    iso2: &'static str,
    symbol: &'static str,
}

const PLACES: [Place; 7] = [
    Place { country: "United States", iso2: "US", symbol: "$" },
    Place { country: "Germany", iso2: "DE", symbol: "€" },
    Place { country: "United Kingdom", iso2: "GB", symbol: "£" },
    Place { country: "United States", iso2: "US", symbol: "$" },
    Place { country: "France", iso2: "FR", symbol: "€" },
    Place { country: "Brazil", iso2: "BR", symbol: "$" },
    Place { country: "Canada", iso2: "CA", symbol: "CAD$" },
];

const BUYERS: [(&str, &str); 5] = [
    ("Grace Hopper", "grace@example.com"),
    ("Alan Turing", "alan@example.com"),
    ("Emmy Noether", "emmy@example.com"),
    ("Edsger Dijkstra", "edsger@example.com"),
    ("Barbara Liskov", "barbara@example.com"),
];

/// A sale with the members of Gumroad's answer that every sale has.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sale {
    id: String,
    email: &'static str,
    seller_id: &'static str,
    timestamp: String,
    daystamp: String,
    created_at: Timestamp,
    product_name: &'static str,
    product_has_variants: bool,
    price: u32,
    gumroad_fee: u32,
    is_bundle_purchase: bool,
    is_bundle_product_purchase: bool,
    formatted_display_price: String,
    formatted_total_price: String,
    currency_symbol: &'static str,
    amount_refundable_in_currency: String,
    product_id: &'static str,
    product_permalink: &'static str,
    refunded: bool,
    partially_refunded: bool,
    chargedback: bool,
    purchase_email: &'static str,
    full_name: &'static str,
    country: &'static str,
    country_iso2: &'static str,
    paid: bool,
    has_variants: bool,
    variants_and_quantity: String,
    has_custom_fields: bool,
    custom_fields: serde_json::Map<String, serde_json::Value>,
    order_id: u64,
    is_product_physical: bool,
    is_recurring_billing: bool,
    can_contact: bool,
    is_following: bool,
    disputed: bool,
    dispute_won: bool,
    is_additional_contribution: bool,
    discover_fee_charged: bool,
    is_gift_sender_purchase: bool,
    is_gift_receiver_purchase: bool,
    referrer: &'static str,
    quantity: u32,
}

impl Sale {
    /// Where a page that begins after this sale continues.
    pub(super) fn key(&self) -> String {
        format!("{}-{}", self.created_at.strftime("%Y%m%d%H%M%S%6f"), self.order_id)
    }

    /// The UTC day of the sale.
    pub(super) fn date(&self) -> Date {
        self.created_at.to_zoned(TimeZone::UTC).date()
    }

    pub(super) fn product_id(&self) -> &str {
        self.product_id
    }

    pub(super) fn email(&self) -> &str {
        self.email
    }

    pub(super) fn order_id(&self) -> u64 {
        self.order_id
    }
}

/// Every sale up to `now`, newest first.
pub(super) fn until(now: Timestamp) -> Vec<Sale> {
    let today = now.to_zoned(TimeZone::UTC).date();
    let mut sales: Vec<Sale> = (0..DAYS)
        .filter_map(|ago| today.checked_sub(ago.days()).ok())
        .flat_map(|day| (0..2 + mix(ordinal(day), 99) % 3).filter_map(move |nth| sale(day, nth, now)))
        .filter(|sale| sale.created_at <= now)
        .collect();
    sales.sort_by_key(|sale| std::cmp::Reverse((sale.created_at, sale.order_id)));
    sales
}

fn sale(day: Date, nth: u64, now: Timestamp) -> Option<Sale> {
    let seed = ordinal(day) * 16 + nth;
    let pick = |salt, of: usize| (mix(seed, salt) % of as u64) as usize;
    let created_at = day.to_zoned(TimeZone::UTC).ok()?.timestamp() + (pick(1, 86_400) as i64).seconds();
    let product = &PRODUCTS[pick(2, PRODUCTS.len())];
    // In turn, not by lot: every week has each of them.
    let place = &PLACES[(seed % 16 + ordinal(day)) as usize % PLACES.len()];
    let (full_name, email) = BUYERS[pick(4, BUYERS.len())];
    let price = format!("{}{}.{:02}", place.symbol, product.cents / 100, product.cents % 100);
    let days = (now.as_second() - created_at.as_second()) / 86_400;
    Some(Sale {
        id: format!("{:016x}{seed:08x}==", mix(seed, 5)),
        email,
        seller_id: SELLER,
        timestamp: match days {
            ..=0 => "today".to_owned(),
            1 => "1 day ago".to_owned(),
            _ => format!("{days} days ago"),
        },
        daystamp: created_at.strftime("%d %b %Y %I:%M %p").to_string(),
        created_at,
        product_name: product.name,
        product_has_variants: false,
        price: product.cents,
        gumroad_fee: product.cents / 10 + 50,
        is_bundle_purchase: false,
        is_bundle_product_purchase: false,
        formatted_display_price: price.clone(),
        formatted_total_price: price,
        currency_symbol: place.symbol,
        amount_refundable_in_currency: format!("{}.{:02}", product.cents / 100, product.cents % 100),
        product_id: product.id,
        product_permalink: product.permalink,
        refunded: false,
        partially_refunded: false,
        chargedback: false,
        purchase_email: email,
        full_name,
        country: place.country,
        country_iso2: place.iso2,
        paid: true,
        has_variants: false,
        variants_and_quantity: String::new(),
        has_custom_fields: false,
        custom_fields: serde_json::Map::new(),
        order_id: seed,
        is_product_physical: false,
        is_recurring_billing: false,
        can_contact: true,
        is_following: false,
        disputed: false,
        dispute_won: false,
        is_additional_contribution: false,
        discover_fee_charged: false,
        is_gift_sender_purchase: false,
        is_gift_receiver_purchase: false,
        referrer: "direct",
        quantity: 1,
    })
}

fn ordinal(day: Date) -> u64 {
    let epoch = Date::constant(2000, 1, 1);
    // Days since the epoch; a clock before it shows an older shop, not a panic.
    (day - epoch).get_days().unsigned_abs().into()
}

/// SplitMix64: spreads neighbouring numbers, and stays the same from one version to the next.
fn mix(seed: u64, salt: u64) -> u64 {
    let mut z = seed.wrapping_add(salt << 40).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn now(day: i64) -> Timestamp {
        "2026-03-01T00:00:00Z".parse::<Timestamp>().unwrap() + (day * 24).hours()
    }

    #[test]
    fn whatever_the_day_both_weeks_have_sales_of_several_countries_and_currencies() {
        for day in 0..400 {
            let now = now(day);
            let sales = until(now);
            for (from, to) in [(0, 7), (7, 14)] {
                let week: Vec<_> = sales
                    .iter()
                    .filter(|sale| {
                        sale.created_at <= now - (from * 24).hours() && sale.created_at > now - (to * 24).hours()
                    })
                    .collect();
                let countries: BTreeSet<_> = week.iter().map(|sale| sale.country).collect();
                let symbols: BTreeSet<_> = week.iter().map(|sale| sale.currency_symbol).collect();
                assert!(week.len() > 10 && countries.len() >= 3 && symbols.len() >= 2, "{now}: {}", week.len());
            }
        }
    }

    #[test]
    fn a_sale_stays_what_it_was_as_time_goes_on() {
        let ids = |sales: Vec<Sale>| sales.into_iter().map(|sale| (sale.created_at, sale.id)).collect::<BTreeSet<_>>();
        let (before, after) = (ids(until(now(0))), ids(until(now(1))));
        assert!(after.len() > 20 && before.intersection(&after).count() + 5 > before.len());
    }

    #[test]
    fn newest_first_without_ties_and_none_from_the_future() {
        let sales = until(now(3));
        assert!(sales.iter().all(|sale| sale.created_at <= now(3)));
        let keys: Vec<_> = sales.iter().map(Sale::key).collect();
        assert!(keys.is_sorted_by(|a, b| a > b), "{keys:?}");
    }
}
