use super::*;

fn wrong(text: &str) -> Vec<String> {
    Definition::read("acme.toml", text).unwrap_err()
}

#[test]
fn every_builtin_definition_reads_without_a_mistake_and_says_where_it_comes_from() {
    for (name, text) in BUILTIN {
        let definition = Definition::read(name, text).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
        let token = definition.token_url.is_some() || definition.is_self_signed();
        assert!(definition.title.is_some() && token || definition.issuer.is_some(), "{name}");
        assert!(text.starts_with("#:schema ./schema.json\n"), "{name}");
        for wanted in ["# Facts: ", "read 2026-", "# Not known: "] {
            assert!(text.contains(wanted), "{name} lacks {wanted:?}");
        }
    }
    assert!(Definition::builtin("nobody").is_none());
    assert!(Definition::names().all(|name| Definition::builtin(name).is_some()));
}

#[test]
fn all_mistakes_are_told_at_once_with_file_line_key_and_what_would_be_right() {
    let wrong = wrong(
        "tokenurl = 'https://a.example'\nlifetime = 'x'\nclient_auth = 'digest'\nscope_separator = ''\nanswer = 7\n\
         [refresh]\nparms = {}\nmethod = 'PUT'\n[token.params]\nany = 'thing'\n[callback]\nx = 1",
    );
    let starts = [
        "acme.toml:1: tokenurl: is no key of a definition: did you mean token_url?",
        "acme.toml:2: lifetime: invalid type: string \"x\", expected u64",
        "acme.toml:3: client_auth: unknown variant `digest`, expected one of `basic`, `basic_raw`",
        "acme.toml:4: scope_separator: must not be empty",
        "acme.toml:5: answer: must be a table",
        "acme.toml:7: refresh.parms: is no key of a definition: did you mean params?",
        "acme.toml:8: refresh.method: unknown variant `PUT`, expected one of `POST`, `GET`, `DELETE`",
        "acme.toml:12: callback.x: is no key of a definition; there are code, registered, sign, state",
    ];
    assert_eq!(wrong.len(), starts.len(), "{wrong:#?}");
    for (line, start) in wrong.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn mistakes_of_syntax_have_their_lines_and_those_of_variables_do_not_spread() {
    let wrong = self::wrong("title = 'A'\nscope = [\nlifetime = = 3\n");
    assert!(wrong[0].starts_with("acme.toml:") && !wrong[0].starts_with("acme.toml:1:"), "{wrong:?}");
    let text = "token_url = 'https://a.example/{realm}/t'\n[variables.realm]\nkinds = 'segment'";
    assert_eq!(
        self::wrong(text),
        ["acme.toml:3: variables.realm.kinds: is no key of a definition: did you mean kind?"]
    );
    assert!(
        self::wrong("token_url = 'https://a.example/t'\n[revoke]\nmethod = 'GET'")
            .iter()
            .any(|line| line.starts_with("acme.toml:2: revoke: needs revoke_url"))
    );
}

#[test]
fn contradictions_and_unsafe_values_are_told_with_the_key() {
    let url = "token_url = 'https://a.example/t'\n";
    for (text, key) in [
        ("authorize_url = 'https://a.{tld}/x'\n[variables.tld]", "authorize_url"),
        ("authorize_url = 'https://a.example{sub}.b.example/'\n[variables.sub]\nkind='segment'", "authorize_url"),
        ("authorize_url = 'https://{sub}.com/'\n[variables.sub]", "authorize_url"),
        (
            "authorize_url = 'https://{sub}.a.example/{sub}@x'\nsecond_url='https://b.{sub}/'\n[variables.sub]",
            "second_url",
        ),
        (
            "authorize_url = 'https://a.example/'\napi_url='https://{a}.{b}.example/'\n[variables.a]\n[variables.b]",
            "api_url",
        ),
        ("api_url = 'https://{sub}.b.{tld}/'\n[variables.sub]\n[variables.tld]\nvalues=['','c.d']", "api_url"),
        ("api_url = 'https://a.{tld}/'\n[variables.tld]\nvalues=['com','']", "api_url"),
        ("api_url = 'https://a.{tld}/'\n[variables.tld]\nvalues=['com','b/c']", "variables.tld.values"),
        ("api_url = 'https://a.{tld}/'\n[variables.tld]\nvalues=['com']\ndefault='net'", "variables.tld.default"),
        ("api_url = '{o}'\n[variables.o]\nkind='origin'\nvalues=['https://a.example']", "variables.o.values"),
        (
            "api_url = 'https://{h}'\n[variables.h]\nkind='host'\nvalues=['a.example']\nhosts=['a.example']",
            "variables.h.values",
        ),
        ("token_url = 'https://{client_id}.a.example/'", "token_url"),
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
        ("answer.limited=[{at='x'}]", "answer.limited"),
        ("answer.reason=['access_token']", "answer.reason"),
        ("api.limits.told_in=[{at='',is=['x']}]", "api.limits.told_in"),
        ("api.expired_in={at='x'}", "api.expired_in"),
        ("renew_before=0", "renew_before"),
        ("[token]\nmethod='GET'", "token.secrets_in_query"),
        ("[token]\nformat='query'", "token.secrets_in_query"),
        ("[token]\nsecrets_in_query=true", "token.secrets_in_query"),
        ("[token]\nmethod='GET'\nformat='json'\nsecrets_in_query=true", "token.format"),
        ("[token]\nbearer=true", "token.bearer"),
        ("[refresh]\nclient_auth='private_key_jwt'", "refresh.client_auth"),
        ("[token.params]\nclient_secret='{client_assertion}'", "token.params"),
        ("[callback.sign]\nparameter=''", "callback.sign"),
        ("[callback.sign]\nheader='x'", "callback.sign"),
        ("client_auth='none'\n[callback.sign]\nparameter='hmac'", "callback.sign.key"),
        ("introspect={method='GET'}", "introspect"),
        ("[token.params]\nx='{p}'\n[variables.p]\nfrom='secret'", "variables.p.at"),
        ("[token.params]\nx='{p}'\n[variables.p]\nfrom='secret'\nat='etl-oauth-operator'", "variables.p.at"),
        ("[token.params]\nx='{p}'\n[variables.p]\nfrom='secret'\nat='api-/../etl-oauth-operator'", "variables.p.at"),
        ("[token.params]\nx='{p}'\n[variables.p]\nfrom='secret'\nat='api-x'\ndefault='y'", "variables.p.at"),
        ("[variables.p]\nfrom='secret'\nat='api-x'", "variables.p"),
        ("[authorize.params]\nx='{p}'\n[variables.p]\nfrom='secret'\nat='api-x'", "authorize.params.x"),
        ("api_url='https://{p}.a.example'\n[variables.p]\nfrom='secret'\nat='api-x'", "api_url"),
        ("api_url='https://u:p@a.example/'", "api_url"),
        ("api_url='https://b\u{fc}cher.example/'", "api_url"),
        ("issuer='http://a.example'", "issuer"),
        ("issuer='https://a.example?x'", "issuer"),
        ("issuer='https://{t}'\n[variables.t]\nkind='text'", "issuer"),
        ("issuer='https://{nobody}.a.example'", "issuer"),
        ("api_url='https://a.example/?client_secret=x'", "api_url"),
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
        ("[api.params]\nkey='{p}'\n[variables.p]\nfrom='secret'\nat='api-x'", "api.secrets_in_query"),
        ("api.secrets_in_query=true", "api.secrets_in_query"),
        ("[api.params]\naccess_token='x'", "api.params"),
        ("[api]\ntoken='sid='", "api.token"),
        ("[api]\ntoken='{access_token}{client_id}'", "api.token"),
        ("client_auth='none'\n[api.headers]\nx='{client_secret}'", "api.headers"),
        ("api.expired_in=[{is=['x']}]", "api.expired_in"),
        ("api.expired_in=7", "api.expired_in"),
        ("answer.refused=[{at='x'}]", "answer.refused"),
        ("[token.headers]\nAuthorization='Bearer {timestamp}'", "token.headers"),
        ("client_auth='post'\n[token.headers]\nAuthorization='Bearer x'", "token.headers"),
        ("[token.basic]\nuser='u'", "token.basic"),
        ("client_auth='post'\n[token.params]\na={b='c'}", "token.params"),
        ("[token]\nformat='json'\n[token.params]\na=1.5", "token.params"),
        ("[token.sign]\nheader='a b'", "token.sign.header"),
        ("device.lifetime=60", "device"),
        ("also.user={}", "also.user"),
        ("also.User={access_token=['a']}", "also.User"),
        ("also.user={access_tokens=['a']}", "also.user.access_tokens"),
        ("grant='client_credentials'\nalso.user={access_token=['a']}", "also.user"),
        ("device_url='https://a.example/d'\ndevice.page='http://a.example'", "device.page"),
        ("device_url='https://a.example/d'\n[device]\npending=[{at='x'}]", "device.pending"),
        (
            "device_url='https://a.example/d'\n[device]\npoll_url='https://a.example/{device_code}'",
            "device.poll.secrets_in_query",
        ),
        ("device_url='https://a.example/d'\n[device]\npoll_url='https://{device_code}.a.example/'", "device.poll_url"),
        ("device_url='https://a.example/d'\n[device.request]\nmethod='GET'", "device.request.secrets_in_query"),
        ("grant='client_credentials'\nrenewal_keeps_token=true", "renewal_keeps_token"),
        ("client_auth='private_key_jwt'\nassertion.hmac='hex'", "assertion.hmac"),
        ("assertion.issuer='{code}'", "assertion.issuer"),
        ("[token.sign]\nheader='x'\nvalue='y'", "token.sign.value"),
        ("[token.sign]\ntext='{body}'", "token.sign.text"),
        ("[token.sign]\ntext='{signature}'", "token.sign.text"),
        ("lookup_url='https://a.example/me'", "lookup"),
        ("[variables.t]\nfrom='lookup'", "lookup_url"),
        (
            "lookup_url='/me'\napi_url='{b}/x'\n[variables.b]\nkind='origin'\nfrom='lookup'\nhosts=['a.example']",
            "lookup_url",
        ),
        ("lookup_url='https://a.example/me'\n[lookup]\nonly=[{at='x'}]\n[variables.t]\nfrom='lookup'", "lookup.only"),
        (
            "lookup_url='https://a.example/me'\n[lookup.params]\na={b='c'}\n[variables.t]\nfrom='lookup'",
            "lookup.params",
        ),
        ("lookup_url='https://a.example/me'\n[variables.t]\nkind='host'\nfrom='lookup'", "variables.t.hosts"),
        (
            "authorize_url='https://{t}.a.example'\nlookup_url='https://a.example/me'\n[variables.t]\nfrom='lookup'",
            "authorize_url",
        ),
    ] {
        let url = if text.starts_with("token_url") { "" } else { url };
        let wrong = wrong(&format!("{url}{text}"));
        let told = format!(": {key}: ");
        assert!(wrong.iter().any(|line| line.contains(&told)), "{text}\n{wrong:#?}");
    }
    assert_eq!(wrong(&format!("{url}scope_separator=''\nlifetime=0\n[token]\nbearer=true")).len(), 3, "all at once");
}
