use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use url::Url;

use token_keeper::{provider::checked_url, store::DEFAULT_ACCOUNT};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, and all is well
  1  the function is not to be reached, or failed
  2  wrong usage
  3  an account needs a person
  4  the operator's secret is missing or wrong, or the function has none
  5  the wait was in vain
  6  an account works, but not without trouble; of revoke --all: some are not revoked
 64  a definition has mistakes

The operator's secret is what the function has mounted as etl-oauth-operator. It is read from --operator-file, or from
the variable ETL_OAUTH_OPERATOR; never from an argument, which others on the machine could see.";

/// Looks after an etl-oauth function: its state, its authorisation, and the providers it knows
#[derive(Debug, Parser)]
#[command(name = "etl-oauth", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows the state of each account; the exit code is that of the worst
    #[command(after_help = EXIT_CODES)]
    Status(Target),
    /// Prints the link at which a person authorises an account, and waits until that is done
    #[command(after_help = EXIT_CODES)]
    Authorize(Authorize),
    /// Renews an account's token now
    #[command(after_help = EXIT_CODES)]
    Refresh(Target),
    /// Revokes an account's tokens at the provider, and deletes them; or those of all accounts
    #[command(after_help = EXIT_CODES)]
    Revoke(Revoke),
    /// Prints a link by which one person authorises one account, once
    #[command(after_help = EXIT_CODES)]
    Link(MakeLink),
    /// Lists the providers that are built in
    Providers(Shape),
    /// Shows a provider's definition, or checks one of your own
    Provider(Which),
    /// Checks a plan of the job extract, shows what it would do, or runs it here
    #[command(subcommand)]
    Extract(Extract),
    /// Prints the completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Command {
    /// Whether a failure is printed as JSON.
    pub(super) fn as_json(&self) -> bool {
        match self {
            Self::Status(target) | Self::Refresh(target) => target.shape.json,
            Self::Revoke(wish) => wish.target.shape.json,
            Self::Authorize(wish) => wish.target.shape.json,
            Self::Link(wish) => wish.target.shape.json,
            Self::Providers(shape) => shape.json,
            Self::Provider(Which { task: Some(Task::New(wish)), .. }) => wish.shape.json,
            Self::Provider(which) => which.shape.json,
            Self::Extract(Extract::Check { shape, .. }) => shape.json,
            Self::Extract(Extract::Plan { source } | Extract::Run { source, .. }) => source.shape.json,
            Self::Completions { .. } => false,
        }
    }
}

/// How the answer looks.
#[derive(Debug, Args)]
pub(super) struct Shape {
    /// Answers with JSON, failures too
    #[arg(long)]
    pub(super) json: bool,
}

/// The function, and who asks.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The function's URL, with /function/NAME
    #[arg(long, env = "ETL_OAUTH_URL", value_parser = url)]
    pub(super) url: Url,
    /// A file that holds the operator's secret
    #[arg(long, env = "ETL_OAUTH_OPERATOR_FILE", value_name = "FILE")]
    pub(super) operator_file: Option<PathBuf>,
    /// The connection [default: default, or the only one; of status: all]
    #[arg(long, value_name = "NAME")]
    pub(super) connection: Option<String>,
    /// The account [default: default; of status: all]
    #[arg(long, value_name = "NAME")]
    pub(super) account: Option<String>,
    #[command(flatten)]
    pub(super) shape: Shape,
}

impl Target {
    pub(super) fn account(&self) -> &str {
        self.account.as_deref().unwrap_or(DEFAULT_ACCOUNT)
    }

    /// The fields that name connection and account; the function knows which connection is meant by none.
    pub(super) fn fields(&self) -> Vec<(&'static str, &str)> {
        let connection = self.connection.as_deref().map(|name| ("connection", name));
        connection.into_iter().chain([("account", self.account())]).collect()
    }
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    pub(super) target: Target,
    /// All accounts: follows the function until each is revoked, and ends with a report
    #[arg(long, conflicts_with = "account")]
    pub(super) all: bool,
    /// With --all: deletes the tokens also where the provider does not revoke them
    #[arg(long, requires = "all")]
    pub(super) force: bool,
    /// With --all: how long to follow, such as 2h
    #[arg(long, value_name = "DURATION", default_value = "70m", value_parser = duration)]
    pub(super) timeout: std::time::Duration,
}

#[derive(Debug, Args)]
pub(super) struct MakeLink {
    #[command(flatten)]
    pub(super) target: Target,
    /// How long the link is good, such as 72h; 168h at most
    #[arg(long, value_name = "DURATION", default_value = "72h")]
    pub(super) expires: String,
    /// The expected person: an address that the provider has verified, or the identifier there
    #[arg(long, value_name = "PERSON")]
    pub(super) expect: Option<String>,
    /// Where the owner gets a fresh link when the account needs one: mailto:… or https://…
    #[arg(long, value_name = "URL")]
    pub(super) notify: Option<String>,
    /// Where the last page leads: below an entry of links_return
    #[arg(long, value_name = "URL")]
    pub(super) return_url: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Authorize {
    #[command(flatten)]
    pub(super) target: Target,
    /// Also where the account is authorised already: waits for tokens that are newer
    #[arg(long)]
    pub(super) again: bool,
    /// How long to wait, such as 15m
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
    pub(super) timeout: std::time::Duration,
}

#[derive(Debug, Subcommand)]
pub(super) enum Extract {
    /// Reads a plan as the function would, and reports what is wrong with it
    Check {
        /// The TOML file
        file: PathBuf,
        #[command(flatten)]
        shape: Shape,
    },
    /// Asks for the first page of each resource, and shows what would be written; stores nothing
    Plan {
        #[command(flatten)]
        source: Source,
    },
    /// Copies what is new, for a grant that needs no person
    Run {
        #[command(flatten)]
        source: Source,
        /// The folder that remembers how far a run got; a database does so itself
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
}

/// A plan, and the API that it is for.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// The TOML file
    pub(super) file: PathBuf,
    /// The provider, as `providers` lists it
    #[arg(long, value_name = "NAME", default_value = "custom")]
    pub(super) provider: String,
    /// The API's base URL [default: the provider's]
    #[arg(long, value_name = "URL", value_parser = url)]
    pub(super) api: Option<Url>,
    /// How tokens are got: static, basic or client_credentials
    #[arg(long, value_name = "GRANT", default_value = "static")]
    pub(super) grant: String,
    /// The folder of secrets: api-token for the grant static, etl-oauth-sink-url for a database
    #[arg(long, value_name = "DIR")]
    pub(super) secrets: PathBuf,
    #[command(flatten)]
    pub(super) shape: Shape,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub(super) struct Which {
    #[command(subcommand)]
    pub(super) task: Option<Task>,
    /// The provider's name, as `providers` lists it
    #[arg(required = true)]
    pub(super) name: Option<String>,
    #[command(flatten)]
    pub(super) shape: Shape,
}

#[derive(Debug, Subcommand)]
pub(super) enum Task {
    /// Reads a definition as the function would, and reports every mistake
    Check {
        /// The TOML file
        file: PathBuf,
    },
    /// Prints the JSON Schema of definitions, for an editor
    Schema,
    /// Writes a definition: asks for its facts, or reads them from a server's metadata
    New(Box<New>),
    /// Walks a definition against a double of its provider, and shows each request; nothing leaves this process
    Test {
        /// The TOML file
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct New {
    /// The TOML file to write
    pub(super) file: PathBuf,
    /// The address of an API, such as an MCP server: it names its authorization server (RFC 9728)
    #[arg(long, value_name = "URL", value_parser = url)]
    pub(super) resource: Option<Url>,
    /// The issuer whose metadata is read (OpenID Connect Discovery, RFC 8414), to the letter
    #[arg(long, value_name = "URL", conflicts_with = "resource")]
    pub(super) issuer: Option<String>,
    /// Registers a client for the function with this redirect URI (RFC 7591)
    #[arg(long, value_name = "REDIRECT_URI", requires = "secrets", value_parser = super::new::redirect_uri)]
    pub(super) register: Option<Url>,
    /// The folder that the client's credentials are written to, a file each
    #[arg(long, value_name = "FOLDER", requires = "register")]
    pub(super) secrets: Option<PathBuf>,
    #[command(flatten)]
    pub(super) shape: Shape,
}

/// The secret goes to that address: over TLS, or to this machine.
fn url(text: &str) -> Result<Url, String> {
    checked_url(text).map_err(|err| err.to_string())
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    crate::config::duration::parse(text).ok_or_else(|| "not a duration such as 10s, 1m30s or 90".into())
}

/// Prints the completions of that shell.
pub(super) fn complete(shell: Shell) {
    clap_complete::generate(shell, &mut Arguments::command(), "etl-oauth", &mut std::io::stdout());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_contradict_nothing() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_secret_is_sent_over_tls_or_within_this_machine() {
        let with = |url| Arguments::try_parse_from(["etl-oauth", "status", "--url", url]);
        assert!(with("https://gateway.example/function/etl-oauth").is_ok());
        assert!(with("http://127.0.0.1:8080/function/etl-oauth").is_ok());
        assert!(with("http://gateway.example/function/etl-oauth").is_err());
    }

    #[test]
    fn a_provider_is_shown_by_name_or_checked_by_file() {
        let which =
            |arguments: &[&str]| match Arguments::try_parse_from([&["etl-oauth", "provider"], arguments].concat()) {
                Ok(Arguments { command: Command::Provider(which) }) => Some((which.name, which.task.is_some())),
                _ => None,
            };
        assert_eq!(which(&["gumroad"]), Some((Some("gumroad".into()), false)));
        assert_eq!(which(&["check", "mine.toml"]), Some((None, true)));
        assert_eq!(which(&["test", "mine.toml"]), Some((None, true)));
        assert_eq!(which(&["new", "mine.toml", "--issuer", "https://a.example"]), Some((None, true)));
        assert_eq!(
            which(&["new", "mine.toml", "--register", "https://f.example/cb"]),
            None,
            "its secret goes somewhere"
        );
        assert_eq!(which(&["check"]), None);
        assert_eq!(which(&[]), None);
    }
}
