use std::{fmt, sync::Arc};

use askama::Template;
use futures_core::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};

use super::{Context, JobError, Outcome};

type Run = dyn Fn(Context) -> BoxFuture<'static, Result<Outcome, JobError>> + Send + Sync;

/// A job of one's own: an async function from the [`Api`](token_keeper::api::Api) of an account, or the whole [`Context`], and a
/// typed input to a typed output.
#[derive(Clone)]
pub struct Own(Arc<Run>);

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Own(..)")
    }
}

/// The output, for a browser.
#[derive(Template)]
#[template(source = "<h1>Done</h1>\n<pre>{{ text }}</pre>\n", ext = "html")]
struct Fragment<'a> {
    text: &'a str,
}

impl Own {
    /// The function `job`. The input is the request's body as JSON or as a form, and the default where that is empty, as a schedule
    /// leaves it; the output is JSON for a machine, and the same indented for people.
    pub fn new<C, I, O, E, F>(job: impl Fn(C, I) -> F + Send + Sync + 'static) -> Self
    where
        C: From<Context>,
        I: DeserializeOwned + Default + Send + 'static,
        O: Serialize + Send + 'static,
        E: Into<JobError> + Send + 'static,
        F: Future<Output = Result<O, E>> + Send + 'static,
    {
        let job = Arc::new(job);
        Self(Arc::new(move |context| {
            let job = Arc::clone(&job);
            Box::pin(async move {
                let input = match context.input.trim_ascii() {
                    b"" => I::default(),
                    body => read(body)?,
                };
                Self::show(&job(context.into(), input).await.map_err(Into::into)?)
            })
        }))
    }

    pub(super) async fn run(&self, context: Context) -> Result<Outcome, JobError> {
        (self.0)(context).await
    }

    fn show(output: &impl Serialize) -> Result<Outcome, JobError> {
        let failed =
            |err: serde_json::Error| JobError::Failed(format!("the output is nothing that JSON can say: {err}"));
        let json = serde_json::to_value(output).map_err(failed)?;
        let text = serde_json::to_string_pretty(&json).map_err(failed)? + "\n";
        Ok(Outcome { json, html: Fragment { text: &text }.render()?, text })
    }
}

/// Reads an input. The error names the field (`orders[2].after`) and what is wrong with it: the body is the caller's own.
fn read<I: DeserializeOwned>(body: &[u8]) -> Result<I, JobError> {
    let form = form(body);
    let body = form.as_deref().unwrap_or(body);
    let mut json = serde_json::Deserializer::from_slice(body);
    let input = serde_path_to_error::deserialize(&mut json).map_err(|err| {
        let (path, why) = (err.path().to_string(), err.inner());
        JobError::Input(if path == "." { why.to_string() } else { format!("{path}: {why}") })
    })?;
    json.end().map_err(|err| JobError::Input(err.to_string()))?;
    Ok(input)
}

/// A form (`a=1&b=2`), as webhooks of commands send it, as a JSON object of texts; `None` for JSON.
fn form(body: &[u8]) -> Option<Vec<u8>> {
    let name = body.split(|byte| *byte == b'=').next().filter(|name| name.len() < body.len())?;
    let of_a_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.%+[]~*".contains(byte);
    if !name.iter().all(of_a_name) || name.starts_with(b"[") {
        return None;
    }
    let fields = url::form_urlencoded::parse(body);
    let fields: serde_json::Map<_, _> =
        fields.map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect();
    serde_json::to_vec(&fields).ok()
}
