//! Every combination, beside a table that is read from above: the first line that fits says what is right.

use super::*;

/// What a column of the table may name: itself, a list `a|b`, or `-` for whatever.
fn fits(column: &str, name: &str) -> bool {
    column == "-" || column.split('|').any(|one| one == name)
}

const DOORS: [(Endpoint, &str); 10] = [
    (Endpoint::Job, "job"),
    (Endpoint::Enable, "enable"),
    (Endpoint::Callback, "callback"),
    (Endpoint::Status, "status"),
    (Endpoint::Operate, "operate"),
    (Endpoint::Login, "login"),
    (Endpoint::Connect, "connect"),
    (Endpoint::Token, "token"),
    (Endpoint::Proxy, "proxy"),
    (Endpoint::Public, "public"),
];
const METHODS: [(Method, &str); 3] = [(Method::GET, "read"), (Method::HEAD, "read"), (Method::POST, "post")];
const STANDINGS: [(AuthOutcome, &str); 7] = [
    (AuthOutcome::Unknown, "unknown"),
    (AuthOutcome::Stranger, "none"),
    (AuthOutcome::Wrong, "wrong"),
    (AuthOutcome::Throttled(3), "throttled"),
    (AuthOutcome::Basic, "basic"),
    (AuthOutcome::Bearer, "bearer"),
    (AuthOutcome::Session, "session"),
];
const CALLERS: [(Caller, &str); 7] = [
    (Caller::Anonymous, "none"),
    (Caller::Wrong("because"), "wrong"),
    (Caller::Forbidden, "forbidden"),
    (Caller::Throttled(5), "throttled"),
    (Caller::Unavailable, "unknown"),
    (Caller::Duplicate(Progress::Done), "duplicate"),
    (Caller::Proved, "proved"),
];
const SITES: [(Site, &str); 3] = [(Site::Own, "own"), (Site::Other, "other"), (Site::Machine, "machine")];
const ENABLE: [(EnableAuth, &str); 2] = [(EnableAuth::Operator, "operator"), (EnableAuth::FirstVisit, "first")];
const FORM: [(bool, &str); 2] = [(true, "form"), (false, "bare")];
const FORWARDED: [(bool, &str); 2] = [(true, "async"), (false, "sync")];
const TAKEN: [(bool, &str); 2] = [(true, "taken"), (false, "free")];
const NAMED: [(bool, &str); 2] = [(true, "named"), (false, "default")];
const CLOSED: [(bool, &str); 2] = [(true, "closed"), (false, "open")];
const OPENED: [(bool, &str); 2] = [(true, "allowed"), (false, "shut")];

const TABLE: &str = "
# door            method operator          caller      site        form forward enable_auth taken name    invoke proxy   decision
public            -      -                 -           -           -    -       -           -     -       -      -       anyone
# The job: authenticated callers, and every caller where it is open.
job               -      bearer            -           -           -    -       -           -     -       -      -       operator
job               -      basic|session     -           own|machine -    -       -           -     -       -      -       operator
job               -      -                 proved      -           -    -       -           -     -       -      -       caller
job               -      -                 -           -           -    -       -           -     -       open   -       anyone
job               -      -                 throttled   -           -    -       -           -     -       -      -       throttled:5
job               -      throttled         -           -           -    -       -           -     -       -      -       throttled:3
job               -      -                 forbidden   -           -    -       -           -     -       -      -       forbidden
job               -      -                 unknown     -           -    -       -           -     -       -      -       unavailable
job               -      -                 duplicate   -           -    -       -           -     -       -      -       duplicate
job               -      -                 wrong       -           -    -       -           -     -       -      -       caller!because
job               -      -                 none        -           -    -       -           -     -       -      -       caller!none
# Token and API: only where they are opened to authenticated callers; the operator is not a caller.
token|proxy       -      -                 -           -           -    -       -           -     -       open   -       hidden
token|proxy       -      -                 -           -           -    -       -           -     -       -      shut    hidden
token|proxy       -      -                 -           -           -    async   -           -     -       -      -       forwarded
token|proxy       -      -                 proved      -           -    -       -           -     -       -      -       caller
token|proxy       -      -                 throttled   -           -    -       -           -     -       -      -       throttled:5
token|proxy       -      -                 forbidden   -           -    -       -           -     -       -      -       forbidden
token|proxy       -      -                 unknown     -           -    -       -           -     -       -      -       unavailable
token|proxy       -      -                 duplicate   -           -    -       -           -     -       -      -       duplicate
token|proxy       -      -                 wrong       -           -    -       -           -     -       -      -       caller!because
token|proxy       -      -                 none        -           -    -       -           -     -       -      -       caller!none
# Without an operator there is nothing of his.
status|operate|login - unknown          -           -           -    -       -           -     -       -      -       hidden
# From here on nothing is answered to an address of the caller's choice.
-                 -      -                 -           -           -    async   -           -     -       -      -       forwarded
# The sign-in form: a forged one would have to contain the secret.
login             post   -                 -           other       -    -       -           -     -       -      -       cross-site
login             -      -                 -           -           -    -       -           -     -       -      -       anyone
# The owner of an account, by a link: reading uses nothing up, and what is posted needs the page's form.
connect           read   -                 -           -           -    -       -           -     -       -      -       anyone
connect           -      -                 -           other       -    -       -           -     -       -      -       cross-site
connect           -      -                 -           -           form -       -           -     -       -      -       anyone
connect           -      -                 -           -           -    -       -           -     -       -      -       forged
# The operator: a bearer is enough; a browser's post needs its form, and comes from no other site.
-                 -      bearer            -           -           -    -       -           -     -       -      -       operator
-                 read   basic|session     -           -           -    -       -           -     -       -      -       operator
-                 post   basic|session     -           other       -    -       -           -     -       -      -       cross-site
-                 post   basic|session     -           -           form -       -           -     -       -      -       operator
-                 post   basic             -           machine     -    -       -           -     -       -      -       operator
-                 post   basic|session     -           -           -    -       -           -     -       -      -       forged
# The first visitor, while there is no token, and for the account `default` alone.
enable|callback   -      -                 -           -           -    -       first       taken default -      -       taken
enable|callback   read   -                 -           -           -    -       first       free  default -      -       anyone
enable|callback   post   -                 -           other       -    -       first       free  default -      -       cross-site
enable|callback   post   -                 -           -           form -       first       free  default -      -       anyone
enable|callback   post   -                 -           -           -    -       first       free  default -      -       forged
# Everything else is refused.
-                 -      throttled         -           -           -    -       -           -     -       -      -       throttled:3
-                 -      -                 -           -           -    -       -           -     -       -      -       operator!
";

fn name(decision: Decision) -> String {
    match decision {
        Decision::Admit(Who::Anyone) => "anyone".into(),
        Decision::Admit(Who::Caller) => "caller".into(),
        Decision::Admit(Who::Operator) => "operator".into(),
        Decision::Refuse(Refusal::Hidden) => "hidden".into(),
        Decision::Refuse(Refusal::Forwarded) => "forwarded".into(),
        Decision::Refuse(Refusal::Operator) => "operator!".into(),
        Decision::Refuse(Refusal::Caller("because")) => "caller!because".into(),
        Decision::Refuse(Refusal::Caller(_)) => "caller!none".into(),
        Decision::Refuse(Refusal::Forbidden) => "forbidden".into(),
        Decision::Refuse(Refusal::Throttled(seconds)) => format!("throttled:{seconds}"),
        Decision::Refuse(Refusal::Duplicate(_)) => "duplicate".into(),
        Decision::Refuse(Refusal::Unavailable) => "unavailable".into(),
        Decision::Refuse(Refusal::CrossSite) => "cross-site".into(),
        Decision::Refuse(Refusal::Forged) => "forged".into(),
        Decision::Refuse(Refusal::Taken) => "taken".into(),
    }
}

/// All ways to choose one of each list.
macro_rules! every {
    ($body:expr; ) => { $body };
    ($body:expr; $name:ident in $list:expr $(, $rest:ident in $lists:expr)*) => {
        for $name in &$list {
            every!($body; $($rest in $lists),*);
        }
    };
}

#[test]
fn every_combination_is_decided_as_the_table_says() {
    let lines: Vec<Vec<&str>> = TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let mut used = vec![0_u32; lines.len()];
    let mut combinations = 0;
    every!({
        let credentials = Credentials {
            operator: operator.0, caller: caller.0, site: site.0, form: form.0, forwarded: forwarded.0,
        };
        let state = State {
            enable_auth: enable.0, taken: taken.0, named: named.0, closed: closed.0, opened: opened.0,
        };
        let names = [
            door.1, method.1, operator.1, caller.1, site.1, form.1, forwarded.1, enable.1, taken.1, named.1, closed.1,
            opened.1,
        ];
        let line = lines.iter().position(|line| line.iter().zip(names).all(|(column, name)| fits(column, name)));
        let line = line.expect("the last line fits all");
        used[line] += 1;
        combinations += 1;
        assert_eq!(name(decide(door.0, &method.0, &credentials, state)), lines[line][12], "{names:?}");
    };
        door in DOORS, method in METHODS, operator in STANDINGS, caller in CALLERS, site in SITES, form in FORM,
        forwarded in FORWARDED, enable in ENABLE, taken in TAKEN, named in NAMED, closed in CLOSED, opened in OPENED
    );
    assert_eq!(combinations, 10 * 3 * 7 * 7 * 3 * 2_u32.pow(7));
    // A line that decides nothing misleads its reader.
    let idle: Vec<_> = lines.iter().zip(&used).filter(|(_, used)| **used == 0).collect();
    assert!(idle.is_empty(), "{idle:?}");
}
