use super::*;

const HEAD: &str = "version: 1.0\nprovider:\n  name: openfaas\n  gateway: http://127.0.0.1:8080\n";

fn parse(text: &str) -> anyhow::Result<Stack> {
    Stack::parse(Path::new("/nowhere"), text, &|name| (name == "SET").then(|| "aval".to_owned()))
}

fn environment(lines: &str) -> BTreeMap<String, String> {
    let text = format!("{HEAD}functions:\n  f:\n    lang: dockerfile\n    environment:\n{lines}");
    parse(&text).unwrap().spec("f").unwrap().env_vars
}

#[test]
fn scalars_keep_their_text_and_null_is_empty() {
    let text = "      a: true\n      b: 1\n      c: 1.50\n      d: 0x10\n      e: 2024-01-01\n      f: null\n      \
                g: ~\n      h: ''\n      i: yes\n      j: 010\n      k: 1e3\n";
    let expected = [
        ("a", "true"),
        ("b", "1"),
        ("c", "1.50"),
        ("d", "0x10"),
        ("e", "2024-01-01"),
        ("f", ""),
        ("g", ""),
        ("h", ""),
        ("i", "yes"),
        ("j", "010"),
        ("k", "1e3"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(environment(text), BTreeMap::from(expected));
}

#[test]
fn variables_are_replaced_before_it_is_yaml() {
    let found = environment("      a: ${SET}\n      b: ${UNSET:-http://127.0.0.1:8080}/x # ${SET:?a comment}\n");
    assert_eq!((found["a"].as_str(), found["b"].as_str()), ("aval", "http://127.0.0.1:8080/x"));
}

#[test]
fn anchors_and_merged_maps_work() {
    let text =
        format!("{HEAD}x-common: &c\n  a: one\nfunctions:\n  hello:\n    environment:\n      <<: *c\n      b: two\n");
    let found = parse(&text).unwrap().spec("hello").unwrap().env_vars;
    assert_eq!((found["a"].as_str(), found["b"].as_str()), ("one", "two"));
}

#[test]
fn a_bad_stack_file_is_one_message_that_says_where() {
    for (text, part) in [
        (format!("{HEAD}functions:\n  f:\n    lang: x\n   bad: [\n"), "line 8"),
        (format!("{HEAD}functions:\n  f:\n    image: a\n    image: b\n"), "image"),
        (format!("{HEAD}functions:\n  f:\n    environment:\n      - a=b\n"), "line 8"),
        (HEAD.to_owned(), "functions"),
        ("version: 2.0\nprovider:\n  name: openfaas\nfunctions:\n  f: {}\n".to_owned(), "2.0"),
        ("provider:\n  name: faas\nfunctions:\n  f: {}\n".to_owned(), "faas"),
        ("functions:\n  f: {}\n".to_owned(), "provider"),
        (format!("{HEAD}functions:\n  f:\n    namespace: dev\n"), "functions.f.namespace"),
        (format!("{HEAD}# ${{oops\nfunctions:\n  f:\n"), "closing brace"),
    ] {
        let message = format!("{:#}", parse(&text).unwrap_err());
        assert!(message.contains(part), "{part:?} in {message}");
    }
}

#[test]
fn versions_may_be_quoted_or_missing() {
    for head in ["version: \"1.0\"\n", "version: 1.0\n", ""] {
        assert!(parse(&format!("{head}provider:\n  name: openfaas\nfunctions:\n  f: {{}}\n")).is_ok(), "{head}");
    }
}

#[test]
fn a_deployment_is_found_by_name_or_image() {
    let stack = parse(&format!("{HEAD}functions:\n  f:\n    image: example.com:5000/f\n")).unwrap();
    assert_eq!(stack.find("f", "other:1"), Some("f"));
    assert_eq!(stack.find("g", "example.com:5000/f:latest"), Some("f"));
    assert_eq!(stack.find("g", "other"), None);
    assert_eq!(stack.find("g", ""), None);
}

#[test]
fn a_later_environment_file_wins() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("one.yml"), "environment:\n  k: one\n  o: one\n").unwrap();
    fs::write(folder.path().join("two.yml"), "environment:\n  k: two\n").unwrap();
    let text =
        format!("{HEAD}functions:\n  f:\n    environment_file: [one.yml, two.yml]\n    environment:\n      k: s\n");
    let stack = Stack::parse(folder.path(), &text, &|_| None).unwrap();
    let found = stack.spec("f").unwrap().env_vars;
    assert_eq!((found["k"].as_str(), found["o"].as_str()), ("two", "one"));
    fs::remove_file(folder.path().join("two.yml")).unwrap();
    assert!(format!("{:#}", stack.spec("f").unwrap_err()).contains("two.yml"));
}
