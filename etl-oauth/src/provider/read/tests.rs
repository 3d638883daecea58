use super::*;

fn wrong(text: &str) -> Vec<String> {
    Definition::read("acme.toml", text).unwrap_err()
}

#[test]
fn every_builtin_definition_reads_without_a_mistake_and_says_where_it_comes_from() {
    for (name, text) in BUILTIN {
        let definition = Definition::read(name, text).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
        assert!(definition.title.is_some() && definition.token_url.is_some() || definition.issuer.is_some(), "{name}");
        assert!(text.starts_with("#:schema ./schema.json\n"), "{name}");
        for wanted in ["# Facts: ", "read 2026-", "# Not known: "] {
            assert!(text.contains(wanted), "{name} lacks {wanted:?}");
        }
    }
    assert!(Definition::builtin("nobody").is_none());
    assert!(Definition::names().all(|name| Definition::builtin(name).is_some()));
}

#[test]
fn all_unknown_keys_are_told_at_once_with_file_key_and_the_keys_that_there_are() {
    let wrong = wrong(
        "tokenurl = 'https://a.example'\nlifetime = 'x'\n[refresh]\nparms = {}\n[variables.sub]\nkinds = 'label'\n\
         [answer]\ntoken = []\n[token.params]\nany = 'thing'",
    );
    let starts = ["answer.token: ", "refresh.parms: ", "tokenurl: ", "variables.sub.kinds: "];
    assert_eq!(wrong.len(), starts.len(), "{wrong:#?}");
    for (line, start) in wrong.iter().zip(starts) {
        assert!(line.starts_with(&format!("acme.toml: {start}is no key of a definition; there are ")), "{line}");
    }
    assert!(wrong[1].contains("params") && wrong[2].contains("token_url"));
}

#[test]
fn a_value_of_the_wrong_kind_names_its_line_and_what_would_be_right() {
    let wrong = wrong("title = 'A'\nclient_auth = 'digest'");
    assert!(wrong[0].starts_with("acme.toml: line 2: unknown variant `digest`"), "{wrong:?}");
    assert!(wrong[0].contains("basic_raw"), "{wrong:?}");
    assert!(self::wrong("title = ")[0].starts_with("acme.toml: line 1: "));
}

#[test]
fn contradictions_and_unsafe_values_are_told_with_the_key() {
    let url = "token_url = 'https://a.example/t'\n";
    for (text, key) in [
        ("authorize_url = 'https://a.{tld}/x'\n[variables.tld]", "authorize_url"),
        ("authorize_url = 'https://a.example{sub}.b.example/'\n[variables.sub]\nkind='segment'", "authorize_url"),
        ("authorize_url = 'https://{sub}.com/'\n[variables.sub]", "authorize_url"),
        ("authorize_url = 'https://{sub}@evil.example/'\n[variables.sub]", "authorize_url"),
        ("authorize_url = 'https://{host}.a.example/'\n[variables.host]\nkind='host'", "authorize_url"),
        ("authorize_url = 'https://a.example/{any}'\n[variables.any]\nkind='text'", "authorize_url"),
        ("authorize_url = 'https://a.example/{o}'\n[variables.o]\nkind='origin'", "authorize_url"),
        ("authorize_url = 'https://a.example/{r}'\n[variables.r]\nkind='segment'\nfrom='answer'", "authorize_url"),
        ("authorize_url = 'https://a.example/{nobody}'", "authorize_url"),
        ("authorize_url = 'https://a.example/#/x'", "authorize_url"),
        ("api_url = 'https://a.example/?access_token=x'", "api_url"),
        ("api_url = 'http://a.example/'", "api_url"),
        ("api_url = 'http://{h}/'\n[variables.h]\nkind='host'", "api_url"),
        ("api_url = 'https://a.example/{client_id}'", "api_url"),
        ("api_url = '/v2'", "api_url"),
        ("[authorize.params]\nstate = ''", "authorize.params.state"),
        ("[token.params]\ncode = 'fixed'", "token.params.code"),
        ("[refresh.params]\nrefresh_token = ''", "refresh.params.refresh_token"),
        ("[authorize]\nfragment = true\n[authorize.params]\nx = '{code}'", "authorize.params.x"),
        ("[variables.unused]", "variables.unused"),
        ("[variables.file]", "variables.file"),
        ("[variables.i]\nfrom='answer'\nkind='origin'", "variables.i.hosts"),
        ("[variables.i]\nfrom='answer'\nkind='origin'\nhosts=['*.com']", "variables.i.hosts"),
        (
            "[variables.i]\nfrom='answer'\nkind='origin'\nhosts=['a.example']\ndefault='https://b.example'",
            "variables.i.default",
        ),
        ("authorize_url = 'https://{s}.a.example'\n[variables.s]\nat='x'", "variables.s.at"),
        ("[token]\nmethod='GET'", "token.secrets_in_query"),
        ("[token]\nformat='query'", "token.secrets_in_query"),
        ("[token]\nsecrets_in_query=true", "token.secrets_in_query"),
        ("[token]\nmethod='GET'\nformat='json'\nsecrets_in_query=true", "token.format"),
        ("[token]\nbearer=true", "token.bearer"),
        ("[token.headers]\nauthorization='x'", "token.headers"),
        ("[token.headers]\n'bad name'='x'", "token.headers.bad name"),
        ("client_auth='none'\n[token.params]\ns='{client_secret}'", "token.params"),
        ("[token.params]\ns='{access_token}'", "token.params.s"),
        ("[revoke]\nmethod='DELETE'", "revoke"),
        ("revoke_url='https://a.example/r'\n[revoke]\nbearer=true", "revoke_tokens"),
        (
            "revoke_url='https://a.example/r'\nrevoke_tokens=['access_token']\n[revoke]\nbearer=true\nclient_auth='post'",
            "revoke.client_auth",
        ),
        ("revoke_url='https://a.example/r'\nrevoke_tokens=[]", "revoke_tokens"),
        ("[second.params]\na='b'", "second"),
        ("userinfo_url='https://a.example/me'", "userinfo_id"),
        ("userinfo_url='https://a.example/me'\nuserinfo_id='id'", "userinfo_id"),
        ("scope_separator=''", "scope_separator"),
        ("scope=['a b']", "scope"),
        ("rotates=false\nreplay_window=30", "rotates"),
        ("lifetime=0", "lifetime"),
        ("[answer]\naccess_token=[]", "answer.access_token"),
        ("[api]\nheader='a b'", "api.header"),
        ("[api.headers]\nauthorization='x'", "api.headers"),
        ("[api]\nexpired=[200]", "api.expired"),
        ("[api.limits]\nreset_unit='epoch'", "api.limits.reset_unit"),
    ] {
        let wrong = wrong(&format!("{url}{text}"));
        let start = format!("acme.toml: {key}: ");
        assert!(wrong.iter().any(|line| line.starts_with(&start)), "{text}\n{wrong:#?}");
    }
    assert_eq!(wrong(&format!("{url}scope_separator=''\nlifetime=0\n[token]\nbearer=true")).len(), 3, "all at once");
}
