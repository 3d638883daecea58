//! The jobs in `examples/`, each with its own tests: one program, so that it is linked once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]
#![allow(dead_code, unreachable_pub, reason = "each has the handler that the template calls")]

#[path = "../examples/calendar_sync/lib.rs"]
mod calendar_sync;
#[path = "../examples/crm_enrichment/lib.rs"]
mod crm_enrichment;
#[path = "../examples/minutes/lib.rs"]
mod minutes;
#[path = "../examples/slack_meeting/lib.rs"]
mod slack_meeting;
#[path = "../examples/weekly_report/lib.rs"]
mod weekly_report;

/// What is to be copied stays short.
#[test]
fn no_example_is_longer_than_sixty_lines_of_code() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path().join("lib.rs");
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let code = text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//"));
        let lines = code.count();
        assert!(lines <= 60, "{}: {lines}", file.display());
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}
