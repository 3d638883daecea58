use etl_oauth::guard::{CookieJar, Guess, Site, Throttle, digest_fits};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

/// Lines `name: value`, as the headers of a request: lists of addresses, cookies, kinds of content and digests. Whatever they
/// say, a right secret that cannot be guessed passes, wrong ones are slowed down in the end, no cookie is taken that is
/// there twice, and a digest fits one body alone.
pub fn header_list(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let name = HeaderName::from_bytes(name);
        let value = HeaderValue::from_bytes(value[1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let (throttle, now) = (Throttle::default(), Timestamp::UNIX_EPOCH);
    let throttled = (0..50).filter(|_| matches!(throttle.judge(&headers, false, 32, now), Guess::Throttled(_))).count();
    assert_eq!(throttled, 40, "one address may be wrong ten times");
    assert_eq!(throttle.judge(&headers, true, 32, now), Guess::Right);

    let url = "https://g.example/function/fuzz".parse().unwrap();
    let _ = Site::of(&headers, &url);
    let jar = CookieJar::new(&url);
    let cookie = jar.get(&headers, "fuzz");
    for value in headers.get_all("cookie").iter().cloned().collect::<Vec<_>>() {
        headers.append("cookie", value);
    }
    assert!(cookie.is_none() || jar.get(&headers, "fuzz").is_none(), "a cookie that is there twice");

    assert!(!(digest_fits(&headers, b"one") && digest_fits(&headers, b"two")), "a digest of two bodies");
}
