//! What the README promises of failures.

use std::path::Path;

use token_keeper::token::FailureKind;

#[test]
fn the_readme_says_of_every_class_when_the_next_try_is_and_what_a_person_does() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let head = "| class | what happened | next try by itself | what a person does |\n";
    let rows: Vec<Vec<&str>> = readme
        .split_once(head)
        .unwrap()
        .1
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), FailureKind::ALL.len());
    for (row, class) in rows.iter().zip(FailureKind::ALL) {
        let (first, last) = class.backoff();
        let next = format!("{} s to {} s", first.as_secs(), last.as_secs());
        let next = if class.needs_person() { "never" } else { &next };
        assert_eq!([row[0], row[2], row[3]], [&*format!("`{class}`"), next, class.next_step()]);
    }
}
