use std::{
    io::{self, Write as _},
    path::Path,
};

use serde_json::json;

use super::{
    Exit, Failure, Outcome,
    arguments::{Shape, Task, Which},
    print, print_json,
};
use token_keeper::provider::{Definition, SCHEMA};

/// `providers`: their names, for the variable `provider`.
pub(super) fn list(shape: &Shape) -> Outcome {
    let title = |name: &str| Definition::builtin(name).and_then(|definition| definition.title);
    let all: Vec<_> = Definition::names().map(|name| (name, title(name).unwrap_or_else(|| name.to_owned()))).collect();
    if shape.json {
        print_json(&all.iter().map(|(name, title)| json!({ "name": name, "title": title })).collect());
    } else {
        let width = all.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines: Vec<_> = all.iter().map(|(name, title)| format!("{name:width$}  {title}")).collect();
        print(&lines.join("\n"));
    }
    Ok(Exit::Done)
}

/// `provider`: shows one, checks a file, or shows what files are to be like.
pub(super) async fn provider(which: &Which) -> Outcome {
    match (&which.task, &which.name) {
        (Some(Task::New(wish)), _) => super::new::new(wish).await,
        (Some(Task::Test { file }), _) => super::walk::test(file, &which.shape).await,
        (Some(Task::Check { file }), _) => check(file, &which.shape),
        (Some(Task::Schema), _) => {
            print(SCHEMA.trim_end());
            Ok(Exit::Done)
        }
        (None, name) => show(name.as_deref().unwrap_or_default(), &which.shape),
    }
}

/// The definition as it is built in, comments and all: to be copied and edited.
fn show(name: &str, shape: &Shape) -> Outcome {
    let definition = Definition::builtin(name).zip(Definition::builtin_text(name));
    let Some((definition, text)) = definition else {
        let message = format!("no provider {name} is built in");
        let next = "See `etl-oauth providers`; with the variable provider=custom the configuration says it all.";
        return Err(Failure::new(Exit::Failed, "no_provider", message, next));
    };
    if shape.json {
        print_json(&json!(definition));
    } else {
        print(text.trim_end());
    }
    Ok(Exit::Done)
}

/// Reads a file as the function reads `provider_file`, and reports every mistake, a line each; `None` where there are some.
pub(super) fn read(file: &Path, shape: &Shape) -> Result<Option<(String, Definition)>, Failure> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|err| {
        Failure::new(Exit::Failed, "unreadable", format!("{name}: {err}"), "Name a file that you can read.")
    })?;
    match Definition::read(&name, &text) {
        Ok(definition) => Ok(Some((name, definition))),
        Err(mistakes) => {
            if shape.json {
                let message = format!("{name} is no definition of a provider");
                let next = "Mend it, and check it again.";
                print_json(
                    &json!({ "error": "bad_definition", "message": message, "next": next, "mistakes": mistakes }),
                );
            } else {
                // A reader that has gone away wants no more.
                let _ = writeln!(io::stderr(), "{}", mistakes.join("\n"));
            }
            Ok(None)
        }
    }
}

/// `provider check`: mistakes, else what would make it better.
fn check(file: &Path, shape: &Shape) -> Outcome {
    let Some((name, definition)) = read(file, shape)? else { return Ok(Exit::Mistaken) };
    let title = definition.title.as_deref().unwrap_or("a provider without a title");
    let suggestions = definition.suggestions();
    if shape.json {
        let suggestions: Vec<_> = suggestions.iter().map(|(key, why)| json!({ "key": key, "why": why })).collect();
        print_json(&json!({ "file": name, "title": definition.title, "suggestions": suggestions }));
    } else {
        print(&format!("{name} is a definition of {title}."));
        suggestions.iter().for_each(|(key, why)| print(&format!("{name}: suggestion: {key} {why}")));
    }
    Ok(Exit::Done)
}
