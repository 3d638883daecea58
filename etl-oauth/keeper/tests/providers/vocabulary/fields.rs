//! The list of fields at the end of the format, written from the types.

use super::*;

/// The fields of one table of the schema, a line each; with the values where only some will do.
fn fields(schema: &Value, table: &Value, out: &mut String) {
    for (name, field) in table["properties"].as_object().unwrap() {
        let text = |it: &Value| it["description"].as_str().unwrap_or_default().replace('\n', " ");
        let target =
            [&field["$ref"], &field["anyOf"][0]["$ref"], &field["items"]["$ref"]].into_iter().find_map(Value::as_str);
        let target = target.and_then(|it| schema.pointer(it.trim_start_matches('#')));
        let mut line = text(field);
        if let Some(const_value) = field["const"].as_str() {
            line = format!("`{const_value}`");
        }
        let values = target.map(|target| (target["oneOf"].as_array(), target["enum"].as_array()));
        if let Some((Some(values), _)) = values
            && values[0]["const"].is_string()
        {
            for value in values {
                write!(line, " `{}`: {}", value["const"].as_str().unwrap(), text(value)).unwrap();
            }
        } else if let Some((_, Some(values))) = values {
            let names: Vec<_> = values.iter().filter_map(Value::as_str).map(|name| format!("`{name}`")).collect();
            write!(line, " {}.", names.join(", ")).unwrap();
        }
        let default = match &field["default"] {
            Value::Null | Value::Object(_) => String::new(),
            Value::Array(items) if items.is_empty() => String::new(),
            Value::String(text) if text.is_empty() => String::new(),
            default => format!("`{default}`"),
        };
        writeln!(out, "| `{name}` | {default} | {} |", line.trim().replace('|', "\\|")).unwrap();
    }
}

#[test]
fn every_field_is_documented() {
    const MARK: &str = "## Every field\n";
    let schema = Definition::schema();
    let mut out = String::from(MARK);
    out.push_str("\nA test writes this list from the types. Lifetimes and windows are seconds.\n");
    let head = "\n| key | default | |\n| --- | --- | --- |\n";
    write!(out, "\n### At the top\n{head}").unwrap();
    fields(&schema, &schema, &mut out);
    for (title, name) in [
        ("`[variables.NAME]`", "Variable"),
        ("`[authorize]`", "Authorize"),
        ("`[callback]`", "Callback"),
        ("`[token]`, `[refresh]`, `[second]`, `[revoke]`, `[introspect]`, `[device.request]`, `[device.poll]`", "Call"),
        ("`basic`", "BasicPair"),
        ("`sign`", "Sign"),
        ("`[answer]`", "AnswerShape"),
        (
            "`answer.success`, `answer.limited`, `answer.refused`, `api.expired_in`, `api.limits.told_in`, `lookup.only`, \
             `lookup.prefer`, `device.pending`, `device.slow_down`, `device.denied`, `device.expired`",
            "Mark",
        ),
        ("`[also.NAME]`", "AlsoToken"),
        ("`[lookup]`", "Lookup"),
        ("`[device]`", "Device"),
        ("`[assertion]`", "AssertionTerms"),
        ("`[exchange]`", "ExchangeTerms"),
        ("`[api]`", "ApiFacts"),
        ("`[api.limits]`", "Limits"),
    ] {
        write!(out, "\n### {title}\n{head}").unwrap();
        fields(&schema, &schema["$defs"][name], &mut out);
    }
    for style in schema["$defs"]["Paging"]["oneOf"].as_array().unwrap() {
        let (name, about) = (&style["properties"]["style"]["const"], &style["description"]);
        write!(out, "\n### `[api.paging]` with `style = {name}`\n\n{}\n{head}", about.as_str().unwrap()).unwrap();
        fields(&schema, style, &mut out);
    }
    // Every table of the schema is in that list, and every value of a choice.
    for (name, table) in schema["$defs"].as_object().unwrap() {
        let keys = table["properties"].as_object().into_iter().flatten().map(|(key, _)| key.clone());
        let choices =
            table["oneOf"].as_array().into_iter().flatten().filter_map(|it| Some(it["const"].as_str()?.to_owned()));
        for word in keys.chain(choices) {
            assert!(out.contains(&format!("`{word}`")), "{name}.{word} is not documented");
        }
    }
    let file = folder("providers/FORMAT.md");
    let text = fs::read_to_string(&file).unwrap();
    let written = text.split(MARK).next().unwrap();
    let mut stale = Vec::new();
    is_current(&file, &format!("{written}{out}"), &mut stale);
    assert!(stale.is_empty(), "UPDATE=1 writes it anew");

    // The table of needs names fields that there are, and links to sections that there are.
    for row in written.lines().filter(|line| line.starts_with("| ")).skip(2) {
        for link in row.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let anchor = |heading: &str| heading.to_lowercase().replace(' ', "-").replace([',', '`', '\''], "");
            let found =
                written.lines().filter_map(|line| line.strip_prefix("### ")).any(|heading| anchor(heading) == link);
            assert!(found, "{link}");
        }
        let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for path in last.split('`').skip(1).step_by(2).filter(|path| !path.starts_with('{')) {
            let word = path.split(' ').next().unwrap().rsplit('.').next().unwrap();
            assert!(out.contains(&format!("| `{word}` |")), "{path}");
        }
    }
}
