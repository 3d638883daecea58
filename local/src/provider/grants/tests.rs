use super::codes::{Bound, Shown};
use super::*;

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// RFC 7636, appendix B.
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const REDIRECT: &str = "http://127.0.0.1/cb";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn bound() -> Bound {
    Bound { challenge: Some(CHALLENGE.into()), key: None }
}

fn shown<'a>(redirect_uri: Option<&'a str>, verifier: Option<&'a str>) -> Shown<'a> {
    Shown { redirect_uri, verifier, key: None }
}

fn consent() -> Consent {
    Consent { client: "app".into(), user: "ada".into(), scope: "view_sales view_profile".into() }
}

fn enabled(grants: &mut Grants, faults: &mut Faults) -> Issued {
    let code = grants.code(consent(), REDIRECT.into(), bound(), faults, at(0)).unwrap();
    grants.redeem("app", &code, shown(Some(REDIRECT), Some(VERIFIER)), faults, at(0)).unwrap().unwrap()
}

fn renew(grants: &mut Grants, token: &str, faults: &mut Faults, now: i64) -> Result<Issued, &'static str> {
    grants.renew("app", token, None, faults, at(now)).unwrap().map_err(|refused| refused.error)
}

#[test]
fn a_code_needs_its_client_redirect_uri_and_verifier() {
    let (mut grants, mut faults) = (Grants::default(), Faults::default());
    for (client, redirect, verifier) in [
        ("other", Some(REDIRECT), Some(VERIFIER)),
        ("app", Some("http://127.0.0.1/other"), Some(VERIFIER)),
        ("app", None, Some(VERIFIER)),
        ("app", Some(REDIRECT), Some("another-verifier-another-verifier-another-v")),
        ("app", Some(REDIRECT), None),
    ] {
        let code = grants.code(consent(), REDIRECT.into(), bound(), &faults, at(0)).unwrap();
        let refused = grants.redeem(client, &code, shown(redirect, verifier), &mut faults, at(0)).unwrap().unwrap_err();
        assert_eq!(refused.error, "invalid_grant", "{client} {redirect:?} {verifier:?}");
    }
    let code = grants.code(consent(), REDIRECT.into(), Bound::default(), &faults, at(0)).unwrap();
    assert!(grants.redeem("app", &code, shown(Some(REDIRECT), Some(VERIFIER)), &mut faults, at(0)).unwrap().is_err());
}

#[test]
fn a_code_that_comes_twice_ends_the_tokens_of_the_first() {
    let (mut grants, mut faults) = (Grants::default(), Faults::default());
    let code = grants.code(consent(), REDIRECT.into(), bound(), &faults, at(0)).unwrap();
    let first =
        grants.redeem("app", &code, shown(Some(REDIRECT), Some(VERIFIER)), &mut faults, at(0)).unwrap().unwrap();
    assert!(grants.consent_of(&first.access_token, at(1)).is_ok());
    assert!(grants.redeem("app", &code, shown(Some(REDIRECT), Some(VERIFIER)), &mut faults, at(1)).unwrap().is_err());
    assert_eq!(grants.consent_of(&first.access_token, at(1)).unwrap_err(), Dead::Revoked);
}

#[test]
fn a_code_expires() {
    let (mut grants, mut faults) = (Grants::default(), Faults::default());
    let code = grants.code(consent(), REDIRECT.into(), bound(), &faults, at(0)).unwrap();
    assert!(grants.redeem("app", &code, shown(Some(REDIRECT), Some(VERIFIER)), &mut faults, at(600)).unwrap().is_err());
}

#[test]
fn a_spent_refresh_token_that_comes_again_ends_the_family() {
    let (mut grants, mut faults) = (Grants::default(), Faults::default());
    let first = enabled(&mut grants, &mut faults).refresh_token.unwrap();
    let second = renew(&mut grants, &first, &mut faults, 1).unwrap();
    assert_eq!(renew(&mut grants, &first, &mut faults, 2).unwrap_err(), "invalid_grant");
    assert_eq!(renew(&mut grants, &second.refresh_token.unwrap(), &mut faults, 3).unwrap_err(), "invalid_grant");
    assert_eq!(grants.consent_of(&second.access_token, at(3)).unwrap_err(), Dead::Revoked);
}

#[test]
fn without_reuse_detection_the_successor_lives() {
    let (mut grants, mut faults) = (Grants::default(), Faults { reuse_detection: false, ..Faults::default() });
    let first = enabled(&mut grants, &mut faults).refresh_token.unwrap();
    let second = renew(&mut grants, &first, &mut faults, 1).unwrap();
    assert!(renew(&mut grants, &first, &mut faults, 2).is_err());
    assert!(renew(&mut grants, &second.refresh_token.unwrap(), &mut faults, 3).is_ok());
}

#[test]
fn within_the_replay_window_a_spent_refresh_token_is_taken_again() {
    let (mut grants, mut faults) = (Grants::default(), Faults { replay_window: 30.0, ..Faults::default() });
    let first = enabled(&mut grants, &mut faults).refresh_token.unwrap();
    renew(&mut grants, &first, &mut faults, 1).unwrap();
    assert!(renew(&mut grants, &first, &mut faults, 30).unwrap().replayed);
    assert!(renew(&mut grants, &first, &mut faults, 31).is_err());
}

#[test]
fn a_spent_refresh_token_is_taken_until_its_access_token_was_used_where_that_is_the_rule() {
    let (mut grants, mut faults) = (Grants::default(), Faults { replay_until_used: true, ..Faults::default() });
    let first = enabled(&mut grants, &mut faults).refresh_token.unwrap();
    renew(&mut grants, &first, &mut faults, 1).unwrap();
    let second = renew(&mut grants, &first, &mut faults, 1000).unwrap();
    grants.consent_of(&second.access_token, at(1001)).unwrap();
    assert!(renew(&mut grants, &first, &mut faults, 1002).is_err());
}

#[test]
fn without_rotation_and_with_an_omitted_refresh_token_the_old_one_stays_good() {
    for mut faults in [
        Faults { rotation: false, ..Faults::default() },
        Faults { omit_refresh_token: crate::provider::faults::Times::Next(2), ..Faults::default() },
    ] {
        let mut grants = Grants::default();
        let kept = std::mem::replace(&mut faults.omit_refresh_token, crate::provider::faults::Times::Next(0));
        let first = enabled(&mut grants, &mut faults).refresh_token.unwrap();
        faults.omit_refresh_token = kept;
        assert!(renew(&mut grants, &first, &mut faults, 1).unwrap().refresh_token.is_none());
        assert!(renew(&mut grants, &first, &mut faults, 2).unwrap().refresh_token.is_none());
    }
}

#[test]
fn access_tokens_expire_and_may_die_earlier_than_they_said() {
    let (mut grants, mut faults) = (Grants::default(), Faults { token_lifetime: 10.0, ..Faults::default() });
    let issued = enabled(&mut grants, &mut faults);
    assert_eq!(issued.expires_in, Some(10));
    assert!(grants.consent_of(&issued.access_token, at(9)).is_ok());
    assert_eq!(grants.consent_of(&issued.access_token, at(10)).unwrap_err(), Dead::Expired);
    faults.early_revocation = Some(1.0);
    let issued = renew(&mut grants, &issued.refresh_token.unwrap(), &mut faults, 20).unwrap();
    assert_eq!(issued.expires_in, Some(10));
    assert!(grants.consent_of(&issued.access_token, at(21)).is_err());
}

#[test]
fn an_idle_refresh_token_expires_where_the_switch_says_so() {
    let (mut grants, mut faults) = (Grants::default(), Faults { refresh_idle: Some(60.0), ..Faults::default() });
    let first = enabled(&mut grants, &mut faults).refresh_token.unwrap();
    let second = renew(&mut grants, &first, &mut faults, 59).unwrap().refresh_token.unwrap();
    assert!(renew(&mut grants, &second, &mut faults, 59 + 60).is_err());
}

#[test]
fn scope_may_shrink_at_renewal_but_not_grow() {
    let (mut grants, mut faults) = (Grants::default(), Faults::default());
    let first = enabled(&mut grants, &mut faults).refresh_token.unwrap();
    let wider = grants.renew("app", &first, Some("view_sales refund_sales"), &mut faults, at(1)).unwrap();
    assert_eq!(wider.unwrap_err().error, "invalid_scope");
    let narrower = grants.renew("app", &first, Some("view_sales"), &mut faults, at(1)).unwrap().unwrap();
    assert_eq!(grants.consent_of(&narrower.access_token, at(2)).unwrap().scope, "view_sales");
}

#[test]
fn revoking_a_refresh_token_ends_the_grant_and_another_client_cannot() {
    let (mut grants, mut faults) = (Grants::default(), Faults::default());
    let issued = enabled(&mut grants, &mut faults);
    let refresh = issued.refresh_token.unwrap();
    assert!(!grants.revoke("other", &refresh));
    assert!(grants.consent_of(&issued.access_token, at(1)).is_ok());
    assert!(grants.revoke("app", &refresh));
    assert_eq!(grants.consent_of(&issued.access_token, at(1)).unwrap_err(), Dead::Revoked);
}

#[test]
fn what_is_kept_over_a_restart_holds_no_token() {
    let (mut grants, mut faults) = (Grants::default(), Faults::default());
    let issued = enabled(&mut grants, &mut faults);
    let kept = serde_json::to_string(&grants).unwrap();
    assert!(!kept.contains("sandbox_"), "{kept}");
    let mut again: Grants = serde_json::from_str(&kept).unwrap();
    assert!(again.consent_of(&issued.access_token, at(1)).is_ok());
    assert!(renew(&mut again, &issued.refresh_token.unwrap(), &mut faults, 2).is_ok());
}

#[test]
fn a_code_that_was_asked_for_with_a_key_is_good_with_that_key_alone() {
    let (mut grants, mut faults) = (Grants::default(), Faults::default());
    for (key, good) in [(None, false), (Some("other"), false), (Some("mine"), true)] {
        let bound = Bound { key: Some("mine".into()), ..bound() };
        let code = grants.code(consent(), REDIRECT.into(), bound, &faults, at(0)).unwrap();
        let shown = Shown { key, ..shown(Some(REDIRECT), Some(VERIFIER)) };
        assert_eq!(grants.redeem("app", &code, shown, &mut faults, at(0)).unwrap().is_ok(), good, "{key:?}");
    }
}

#[test]
fn a_grant_without_consent_is_forgotten_when_its_token_has_ended() {
    let (mut grants, mut faults) = (Grants::default(), Faults { token_lifetime: 1.0, ..Faults::default() });
    let kept = enabled(&mut grants, &mut faults);
    for second in 0..20 {
        let issued = grants.give(consent(), false, &mut faults, at(second * 3600)).unwrap();
        assert!(issued.refresh_token.is_none());
        grants.bind(&issued.access_token, "key");
        assert_eq!(grants.key_of(&issued.access_token), Some("key"));
    }
    assert!(grants.grants.len() < 5, "{}", grants.grants.len());
    assert!(renew(&mut grants, &kept.refresh_token.unwrap(), &mut faults, 100_000).is_ok());
}
