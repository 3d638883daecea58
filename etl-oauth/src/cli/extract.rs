//! `extract`: checks a plan, shows what it would do, or runs it without a function around it, for grants that need no person.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;

use super::{
    Exit, Failure, Outcome,
    arguments::{Extract, Source},
    print, print_json,
};
use crate::job::{
    Context, Delivery, JobError, JobState, Progress,
    extract::{self, Plan, Preview},
};
use token_keeper::{
    Secrets, Store, StoreOptions, TokenKeeper,
    provider::{Definition, Grant, Overrides},
    store::Memory,
};

pub(super) async fn extract(wish: &Extract) -> Outcome {
    match wish {
        Extract::Check { file, shape } => {
            let plan = read(file)?;
            let names: Vec<_> = plan.resources().iter().map(|resource| resource.name.as_str()).collect();
            if shape.json {
                print_json(&json!({ "resources": names }));
            } else {
                print(&format!("{} is a sound plan: it copies {}.", file.display(), names.join(", ")));
            }
            Ok(Exit::Done)
        }
        Extract::Plan { source } => plan(source).await,
        Extract::Run { source, state } => run(source, state.as_deref()).await,
    }
}

fn read(file: &Path) -> Result<Plan, Failure> {
    Plan::open(file).map_err(|why| {
        Failure::new(Exit::Mistaken, "plan", format!("the argument {why}"), "Correct the plan; docs: Copy lists.")
    })
}

async fn plan(source: &Source) -> Outcome {
    let (plan, (keeper, _)) = (read(&source.file)?, open(source)?);
    let api = keeper.account("default").map_err(|err| failed(&err.into()))?.api().map_err(|err| failed(&err.into()))?;
    let previews = extract::preview(&plan, &api).await.map_err(|err| failed(&err))?;
    if source.shape.json {
        print_json(&json!(previews));
    } else {
        previews.iter().for_each(show);
    }
    Ok(if previews.iter().all(|preview| preview.warnings.is_empty()) { Exit::Done } else { Exit::Degraded })
}

fn show(preview: &Preview) {
    let Preview { resource, request, records, columns, first, has_more, warnings } = preview;
    let more = if *has_more { ", and there are more pages" } else { ", and there is no other page" };
    print(&format!("{resource}: {request} has {}{more}", crate::format::count(*records as u64, "record")));
    for (name, kind) in columns {
        print(&format!("  {name}  {kind}"));
    }
    if let Some(first) = first {
        print(&format!("  the first one: {first}"));
    }
    warnings.iter().for_each(|warning| print(&format!("  look: {warning}")));
}

async fn run(source: &Source, state: Option<&Path>) -> Outcome {
    let (plan, (keeper, secrets)) = (read(&source.file)?, open(source)?);
    let account = keeper.account("default").map_err(|err| failed(&err.into()))?;
    let store = match state {
        Some(folder) => {
            let mut options = StoreOptions::new("extract", secrets.clone());
            options.path = Some(folder.to_owned());
            Store::open("file", &options).await.map_err(|err| failed(&err.into()))?
        }
        None if plan.keeps_its_place() => Store::Memory(Memory::default()),
        None => {
            let why = "files do not say how far the last run got";
            return Err(Failure::new(Exit::Mistaken, "state", why, "Name a folder: --state DIR."));
        }
    };
    let context = Context {
        api: account.api().map_err(|err| failed(&err.into()))?,
        now: Timestamp::now(),
        input: Bytes::new(),
        ledger: JobState::new(Arc::new(store), account.keeper().key()),
        outlets: Delivery::new(secrets, None, None).map_err(|why| failed(&JobError::Failed(why)))?,
        progress: Progress::default(),
        apis: crate::job::Apis::default(),
    };
    let outcome = extract::run(&plan, &context).await.map_err(|err| failed(&err))?;
    keeper.finish(std::time::Duration::from_secs(10)).await;
    if source.shape.json {
        print_json(&outcome.json);
    } else {
        print(outcome.text.trim_end());
    }
    Ok(Exit::Done)
}

/// The tokens of the plan's API, and the folder of secrets.
fn open(source: &Source) -> Result<(TokenKeeper, Secrets), Failure> {
    let wrong = |why: String| {
        Failure::new(Exit::Mistaken, "config", why, "Name --provider or --api, and --secrets with the files it needs.")
    };
    let secrets = Secrets::new(&source.secrets, "");
    let grant = Grant::NAMES.into_iter().find(|(name, _)| *name == source.grant).map(|(_, grant)| grant);
    let grant = grant.ok_or_else(|| wrong(format!("there is no grant {}", source.grant)))?;
    let definition = Definition::builtin(&source.provider);
    let definition = definition.ok_or_else(|| wrong(format!("no provider {} is built in", source.provider)))?;
    let overrides = Overrides { grant: Some(grant), api_url: source.api.clone(), ..Overrides::default() };
    let keeper = TokenKeeper::builder(&source.provider, Store::Memory(Memory::default()))
        .definition(definition)
        .overrides(overrides)
        .secrets(secrets.clone())
        .build()
        .map_err(|err| wrong(err.to_string()))?;
    Ok((keeper, secrets))
}

fn failed(err: &JobError) -> Failure {
    Failure::new(Exit::Failed, err.code(), err.to_string(), err.next_step())
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::arguments::{Arguments, Command},
        testing::{MockApi, Reply},
    };

    async fn command(arguments: &[&str]) -> Outcome {
        let arguments = [&["etl-oauth", "extract"], arguments].concat();
        match Arguments::try_parse_from(arguments).unwrap().command {
            Command::Extract(wish) => extract(&wish).await,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_plan_is_checked_previewed_and_run_without_a_function() {
        let (mock, folder) = (MockApi::start().await, tempfile::tempdir().unwrap());
        mock.reply("GET /things", Reply::json(json!([{ "id": 1, "at": 1 }])));
        let path = |name: &str| folder.path().join(name).display().to_string();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("api-token", "a-token-made-by-hand");
        write("etl-oauth-seal-keys", "1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
        let plan = format!(
            "[sink]\nkind = 'folder'\npath = '{}'\n[[resource]]\nname = 'things'\npath = '/things'\nkey = 'id'\n\
             cursor = {{ field = 'at', parameter = 'since' }}\n",
            path("data")
        );
        write("plan.toml", &plan);
        write("wrong.toml", &plan.replace("key = 'id'\n", ""));
        assert_eq!(command(&["check", &path("plan.toml")]).await.unwrap(), Exit::Done);
        let err = command(&["check", &path("wrong.toml")]).await.unwrap_err();
        assert!(err.exit == Exit::Mistaken && err.message.contains("no key"), "{err:?}");

        let (file, api, secrets) = (path("plan.toml"), mock.url(""), folder.path().display().to_string());
        let source = ["--api", &api, "--secrets", &secrets];
        let with = |what: &'static str| [&[what, &file], &source[..]].concat();
        assert_eq!(command(&with("plan")).await.unwrap(), Exit::Done);
        assert!(!folder.path().join("data").exists(), "a plan stores nothing");
        assert_eq!(mock.requests()[0].token(), Some("a-token-made-by-hand"));
        let err = command(&with("run")).await.unwrap_err();
        assert_eq!(err.error, "state");
        let state = path("state");
        for since in [None, Some("1")] {
            let run = [&with("run")[..], &["--state", &state]].concat();
            assert_eq!(command(&run).await.unwrap(), Exit::Done);
            assert_eq!(mock.requests().last().unwrap().query("since"), since);
        }
        let lines = std::fs::read_to_string(folder.path().join("data/things/00000000-000000.jsonl")).unwrap();
        assert_eq!(lines, "{\"at\":1,\"id\":1}\n");
    }
}
