//! The README's example as a program of the terminal: `quickstart FOLDER ISSUER` with the client's secrets and the sealing
//! keys in `FOLDER/secrets`.

use std::{error::Error, path::Path};

// README: begin
use token_keeper::{Secrets, Store, StoreOptions, TokenKeeper, Url};

/// `secrets/` holds the files oauth2-client-id, oauth2-client-secret and etl-oauth-seal-keys.
pub async fn open(folder: &Path, issuer: &str) -> Result<TokenKeeper, Box<dyn Error>> {
    let secrets = Secrets::new(folder.join("secrets"), "");
    let mut options = StoreOptions::new("my-program", secrets.clone());
    options.path = Some(folder.join("tokens"));
    let store = Store::open("file", &options).await?;
    let keeper = TokenKeeper::builder("custom", store).issuer(issuer).api_url(issuer.parse()?).scope(["view_sales"]);
    Ok(keeper.secrets(secrets).redirect_uri("http://127.0.0.1:8000/callback").build()?)
}

/// Once: `browser` leads a person to the provider and gives the URL that the provider sends them back to.
pub async fn connect(keeper: &TokenKeeper, browser: impl AsyncFn(Url) -> String) -> Result<(), Box<dyn Error>> {
    let asked = keeper.authorize_url("a").await?;
    let callback = browser(asked.url).await;
    keeper.exchange(&asked.session, &callback).await?;
    Ok(())
}

/// From then on, in as many tasks and processes as there are: the token is renewed once for all of them.
pub async fn sales(keeper: &TokenKeeper) -> Result<serde_json::Value, Box<dyn Error>> {
    Ok(keeper.account("a")?.api()?.get("/v2/sales").json().await?)
}
// README: end

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "a test runs the functions above")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, issuer] = &arguments[..] else { return Err("quickstart FOLDER ISSUER".into()) };
    let keeper = open(folder.as_ref(), issuer).await?;
    if keeper.account("a")?.token().await.is_err() {
        let browser = async |url: Url| {
            eprintln!("Open {url}\nand paste the address that the browser comes back to:");
            let mut line = String::new();
            let _ = std::io::stdin().read_line(&mut line);
            line.trim().to_owned()
        };
        connect(&keeper, browser).await?;
    }
    eprintln!("{}", sales(&keeper).await?);
    Ok(())
}
