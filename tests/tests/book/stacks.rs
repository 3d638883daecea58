//! The stack files of the book are ones that the function takes.

use std::fs;

use etl_oauth::config::Config;

use crate::source::{files, root};

/// A key for clients that sign, made for this test alone.
fn private_key() -> String {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let der = STANDARD.encode(pair.to_pkcs8v1().unwrap().as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n")
}

/// The lines below a key, by their indentation.
fn below<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text.lines().skip_while(|line| line.trim() != key).skip(1);
    lines.take_while(|line| line.starts_with("      ")).map(str::trim).filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn every_stack_file_of_the_book_configures_the_function() {
    let stacks = files("docs/src/grants", "yaml");
    assert!(stacks.len() >= 7, "a grant has no stack file: {stacks:?}");
    for file in stacks {
        let text = fs::read_to_string(&file).unwrap();
        let variables: Vec<(String, String)> = below(&text, "environment:")
            .into_iter()
            .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{}: {line}", file.display())))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
            .collect();
        let folder = tempfile::tempdir().unwrap();
        for secret in below(&text, "secrets:") {
            let name = secret.trim_start_matches("- ");
            let value = match name {
                "oauth2-private-key" => private_key(),
                "etl-oauth-seal-keys" => "1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned(),
                _ => "a value that is long enough".to_owned(),
            };
            fs::write(folder.path().join(name), value).unwrap();
        }
        let read = Config::read(|name| match name {
            "secret_mount_path" => Some(folder.path().display().to_string()),
            _ => variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()),
        });
        assert!(read.is_ok(), "{}: {}", file.strip_prefix(root()).unwrap().display(), read.unwrap_err());
    }
}
