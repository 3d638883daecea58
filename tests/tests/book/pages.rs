//! The book holds together: every page is in the table of contents, every link leads somewhere, every alert and failure
//! class has its page.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use token_keeper::token::FailureKind;

use crate::source::{files, read, root, same};

/// The targets of a text's links.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

fn clean(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut clean, part| {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            part => clean.push(part),
        }
        clean
    })
}

#[test]
fn every_page_is_in_the_table_of_contents_and_every_entry_is_a_page() {
    let book = root().join("docs/src");
    let listed: BTreeSet<String> = links(&read("docs/src/SUMMARY.md")).into_iter().map(str::to_owned).collect();
    let pages = files("docs/src", "md")
        .into_iter()
        .map(|path| path.strip_prefix(&book).unwrap().to_string_lossy().into_owned());
    let pages: BTreeSet<String> = pages.filter(|path| path != "SUMMARY.md").collect();
    same("SUMMARY.md", &listed, &pages);
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    let mut broken = Vec::new();
    let own = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "deploy/README.md"]
        .map(|name| root().join(name));
    for page in own.into_iter().chain(files("docs", "md")) {
        let text = std::fs::read_to_string(&page).unwrap();
        // The keys of a map, the parameters of a route and the like stand in code, not in links.
        let prose: String = text.split("```").step_by(2).collect();
        for link in links(&prose) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let target = if file.is_empty() { page.clone() } else { clean(&page.parent().unwrap().join(file)) };
            if !target.exists() {
                broken.push(format!("{}: {link}", page.display()));
            } else if !anchor.is_empty()
                && target.extension().is_some_and(|it| it == "md")
                && !anchors(&target).contains(anchor)
            {
                broken.push(format!("{}: {link} has no such heading", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The anchors of a page's headings, as mdBook and GitHub make them.
fn anchors(page: &Path) -> BTreeSet<String> {
    let mut text = std::fs::read_to_string(page).unwrap();
    // A page that is documented beside the code.
    let included = text.split("{{#include ").nth(1).and_then(|rest| rest.split("}}").next());
    if let Some(file) = included.filter(|file| file.ends_with(".md")) {
        text += &std::fs::read_to_string(clean(&page.parent().unwrap().join(file))).unwrap();
    }
    let mut found = BTreeSet::new();
    for heading in text.lines().filter(|line| line.starts_with('#')) {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    found
}

fn names(folder: &str) -> BTreeSet<String> {
    files(folder, "md").into_iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_alert_has_its_page_in_the_runbook() {
    let rules = read("deploy/alerts.yaml");
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect();
    same("docs/src/runbook/alerts", &names("docs/src/runbook/alerts"), &alerts);
}

#[test]
fn every_failure_class_has_its_page_in_the_runbook() {
    let classes = FailureKind::ALL.iter().map(|class| class.as_str().to_owned()).collect();
    same("docs/src/runbook/failures", &names("docs/src/runbook/failures"), &classes);
}

#[test]
fn every_page_of_the_runbook_says_what_it_looks_like_what_it_means_what_to_type_and_how_it_ends() {
    for page in ["alerts", "failures"].iter().flat_map(|folder| files(&format!("docs/src/runbook/{folder}"), "md")) {
        let text = std::fs::read_to_string(&page).unwrap();
        for heading in ["## What it looks like", "## What it means", "## What to do", "## How you know it is over"] {
            assert!(text.contains(heading), "{} lacks {heading:?}", page.display());
        }
    }
}

#[test]
fn every_path_of_the_architecture_exists() {
    let text = read("ARCHITECTURE.md");
    let paths: Vec<_> = crate::source::spans(&text).into_iter().filter(|span| span.contains('/')).collect();
    assert!(paths.len() >= 30, "{paths:?}");
    let gone: Vec<_> = paths.into_iter().filter(|path| !root().join(path).exists()).collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md names what is not there: {gone:?}");
}

#[test]
fn the_readme_is_one_screen() {
    let readme = read("README.md");
    let (lines, bytes) = (readme.lines().count(), readme.len());
    assert!(lines <= 120 && bytes <= 7_000, "README.md has {lines} lines and {bytes} bytes");
    assert!(readme.contains(include_str!("readme_job.rs")), "the README's job is the one that is compiled");
    for picture in files("docs/src/images", "png") {
        let size = std::fs::metadata(&picture).unwrap().len();
        assert!(size <= 60_000, "{} has {size} bytes", picture.display());
    }
}
