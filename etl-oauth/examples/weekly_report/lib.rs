//! Sums up the week's sales, and sends the sum once a week: by mail to `report_to`, or to the webhook of the secret
//! `etl-oauth-notify-url`.

use etl_oauth::{
    BoxError, Handler,
    api::Paging,
    job::{Context, Message},
};
use jiff::SignedDuration;

#[derive(serde::Deserialize)]
struct Sales {
    sales: Vec<Sale>,
}

#[derive(serde::Deserialize)]
struct Sale {
    price: u64,
}

#[derive(serde::Serialize)]
struct Report {
    count: usize,
    cents: u64,
    sent: bool,
}

async fn weekly(context: Context, (): ()) -> Result<Report, BoxError> {
    let since = context.now - SignedDuration::from_hours(7 * 24);
    let request = context.api.get("/v2/sales").query("after", since.strftime("%Y-%m-%d").to_string());
    let mut pages = request.pages(Paging::NextUrl { next: "next_page_url".into() }, 1000);
    let (mut count, mut cents) = (0, 0);
    while let Some(page) = pages.next().await {
        let page: Sales = page?.json()?;
        count += page.sales.len();
        cents += page.sales.iter().map(|sale| sale.price).sum::<u64>();
    }
    let text = format!("{count} sales, {}.{:02} USD", cents / 100, cents % 100);
    let message = || Message { subject: "Sales of the week".into(), html: format!("<p>{text}</p>"), text };
    let sent = context.outlets.weekly(&context.ledger, context.now, message).await?;
    Ok(Report { count, cents, sent })
}

pub async fn handler() -> Result<Handler, BoxError> {
    etl_oauth::with(weekly).await
}

#[cfg(test)]
mod tests;
