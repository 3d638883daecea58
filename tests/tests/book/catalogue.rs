//! The failure catalogue: each case has the tests that hold it, by their names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::source::{files, read, root, spans};

const PAGE: &str = "docs/failure-catalogue.md";
const HELD: &str = "Held by: ";
/// Cases whose tests are still to be written: `S`, `O` and `H` of the newest audit. Each that gets one leaves this list.
const OPEN: [char; 3] = ['S', 'O', 'H'];

/// The numbers of cases in a test's name: `b4_b7_a_renewal…`, and those after an `and`: `…_and_d4_makes_no_needless_call`.
fn numbers(test: &str) -> Vec<String> {
    let is_number = |word: &&str| {
        let (letter, digits) = word.split_at(word.len().min(1));
        "abcdefghos".contains(letter)
            && !digits.is_empty()
            && digits.len() <= 2
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let words: Vec<_> = test.split('_').collect();
    let leading = words.iter().take_while(|word| is_number(word));
    let joined = words.windows(2).filter(|pair| pair[0] == "and" && is_number(&pair[1])).map(|pair| &pair[1]);
    leading.chain(joined).map(|word| word.to_uppercase()).collect()
}

/// The tests by the number of the case that they hold. The template's own tests are left out: `h2` is HTTP/2 there.
fn tests() -> BTreeMap<String, BTreeSet<String>> {
    let mut tests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in ["etl-oauth", "local", "tests", "fuzz"].iter().flat_map(|folder| files(folder, "rs")) {
        let text = fs::read_to_string(file).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some((head, name)) = line.split_once("fn ")
                && is_test
                && matches!(head, "" | "async ")
            {
                is_test = false;
                let name = name.split('(').next().unwrap();
                for number in numbers(name) {
                    tests.entry(number).or_default().insert(name.to_owned());
                }
            }
        }
    }
    tests
}

/// The page with the line of tests of each case as it should be. A case whose line says more keeps that after a semicolon:
/// files that hold it and are no Rust tests.
fn held(page: &str, tests: &BTreeMap<String, BTreeSet<String>>) -> String {
    let mut case = String::new();
    let mut out = String::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            case = number(heading).to_owned();
        }
        if let Some(rest) = line.strip_prefix(HELD) {
            let own = tests
                .get(&case)
                .map(|names| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "));
            let other = rest.split_once("also ").map(|(_, other)| format!("also {other}"));
            let all: Vec<_> = own.into_iter().chain(other).collect();
            out.push_str(HELD);
            out.push_str(if all.is_empty() { "no test yet." } else { "" });
            out.push_str(&all.join("; "));
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

#[test]
fn every_case_names_tests_that_hold_it_and_each_of_them_exists() {
    let tests = tests();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(root().join(PAGE), held(&read(PAGE), &tests)).unwrap();
    }
    let page = read(PAGE);
    let cases: Vec<_> = page.split("\n### ").skip(1).map(|section| (number(section), section)).collect();
    let wanted =
        [('A', 12), ('B', 8), ('C', 3), ('D', 4), ('E', 7), ('F', 13), ('G', 2), ('S', 23), ('O', 13), ('H', 17)];
    let wanted = wanted.iter().flat_map(|(letter, last)| (1..=*last).map(move |number| format!("{letter}{number}")));
    let numbers: Vec<_> = cases.iter().map(|(case, _)| (*case).to_owned()).collect();
    assert_eq!(numbers, wanted.collect::<Vec<_>>(), "each case has one entry, in order");
    let mut wrong = Vec::new();
    for (case, section) in cases {
        let line = |head: &str| section.lines().find_map(|line| line.strip_prefix(head));
        for head in ["Reported: ", "Right: "] {
            assert!(line(head).is_some(), "{case} has no line {head:?}");
        }
        let held = line(HELD).unwrap_or_default();
        let (names, files) = held.split_once("also ").unwrap_or((held, ""));
        let (names, files) = (spans(names), spans(files));
        if names.is_empty() && files.is_empty() && !case.starts_with(OPEN) {
            wrong.push(format!("{case} has no test"));
        }
        let of_case = tests.get(case);
        let gone = names.iter().filter(|name| of_case.is_none_or(|tests| !tests.contains(*name)));
        wrong.extend(gone.map(|name| format!("{case} names the test {name}, which does not exist")));
        let gone = files.iter().filter(|file| !root().join(file).exists());
        wrong.extend(gone.map(|file| format!("{case} names the file {file}, which does not exist")));
    }
    assert!(wrong.is_empty(), "UPDATE=1 cargo test -p tests --test book writes the names anew: {wrong:#?}");
}

/// The number that a section begins with.
fn number(section: &str) -> &str {
    section.split([' ', '.', ':']).next().unwrap_or_default()
}

#[test]
fn numbers_are_read_off_the_names_of_tests() {
    assert_eq!(numbers("a10_a_lease_ends"), ["A10"]);
    assert_eq!(numbers("b4_b7_a_renewal"), ["B4", "B7"]);
    assert_eq!(numbers("d1_a_run_and_d4_makes_no_call"), ["D1", "D4"]);
    assert!(numbers("an_answer_and_a_token").is_empty() && numbers("f").is_empty() && numbers("h2c_works").is_empty());
}
