//! The TOML files in the book are read as the function reads them.

use etl_oauth::job::extract::Plan;
use token_keeper::provider::Definition;

use crate::source::read;

/// The blocks of TOML in a page.
fn blocks(page: &str) -> Vec<String> {
    let page = read(page);
    page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_definition_in_ten_lines_is_one() {
    let blocks = blocks("docs/src/providers/README.md");
    let text = blocks.iter().find(|text| text.contains("title = \"Acme\"")).unwrap();
    let definition = Definition::read("acme.toml", text).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
    assert_eq!(definition.title.as_deref(), Some("Acme"));
    assert!(text.lines().count() <= 10, "ten lines, it says");
}

#[test]
fn the_plans_of_extract_can_work() {
    let plans: Vec<_> =
        blocks("docs/src/jobs/extract.md").into_iter().filter(|text| text.starts_with("[sink]")).collect();
    assert!(!plans.is_empty(), "the page shows a plan");
    for plan in plans {
        Plan::read(&plan).unwrap_or_else(|err| panic!("{err}: {plan}"));
    }
}
