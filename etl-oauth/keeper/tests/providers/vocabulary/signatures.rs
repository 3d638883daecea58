//! Signed requests and redirects.

use base64::Engine as _;

use super::*;

fn hex_of(text: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"s"), text.as_bytes());
    tag.as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

#[test]
fn signatures() {
    let it = provider("Signatures");
    let request = code(&it);
    let (fields, signature) = request.body().rsplit_once("&sign=").unwrap();
    let mut sorted: Vec<&str> = fields.split('&').collect();
    sorted.sort_unstable();
    assert_eq!(signature, hex_of(&format!("/token{}", sorted.join("&"))).to_uppercase());

    let signed = "code=c&host=YWRtaW4%3D&shop=acme.example&state=st&timestamp=1337178173";
    let query = |signature: &str| {
        format!("hmac={signature}&state=st&code=c&shop=acme.example&host=YWRtaW4%3D&timestamp=1337178173")
    };
    assert!(grant::is_signed(&it, &client(), &query(&hex_of(signed))));
    // The example of a provider that signs so.
    let documented = "code=0907a61c0c8d55e99db179b68161bc00&hmac=700e2dadb827fcc8609e9d5ce208b2e9cdaab9df07390d2cbca10d7c328fc4bf\
                      &shop=some-shop.myshopify.com&state=0.6784241404160823&timestamp=1337178173";
    let hush = Client { secret: Some(Secret::new("hush")), ..client() };
    assert!(grant::is_signed(&it, &hush, documented) && !grant::is_signed(&it, &client(), documented));
    let other = Client { secret: Some(Secret::new("other")), ..client() };
    assert!(!grant::is_signed(&it, &other, &query(&hex_of(signed))), "it is signed with the client's secret");
    for wrong in [query(&hex_of("code=c")), query(""), signed.to_owned(), format!("{}&hmac=x", query(&hex_of(signed)))]
    {
        assert!(!grant::is_signed(&it, &client(), &wrong), "{wrong}");
    }
    assert!(grant::is_signed(&provider("Bodies"), &client(), signed), "others do not sign");

    let provider = Provider::new("example", example("Signatures", 1), Overrides::default()).unwrap();
    let client = Client { id: "id".into(), assertion: Some(Secret::new("e.y.J")), ..Client::default() };
    let request = grant::refresh_token(&provider, &client, &Secret::new("rt"));
    assert_eq!(
        request.body(),
        "grant_type=refresh_token&refresh_token=rt&client_id=id&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=e.y.J",
        "parameters are each request's own"
    );
    let request = grant::authorization_code(&provider, &client, "c", "r", None);
    assert_eq!(request.body(), "grant_type=authorization_code&code=c&redirect_uri=r&client_id=id&client_secret=e.y.J");
}

#[test]
fn a_signature_over_chosen_values_stands_in_a_header() {
    let it = Provider::new("example", example("Signatures", 2), Overrides::default()).unwrap();
    let request = code(&it);
    let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
    let (time, nonce) = (header("x-time"), header("x-nonce"));
    assert!(time.parse::<i64>().unwrap() > 1_600_000_000_000 && nonce.len() == 22, "{time} {nonce}");
    let text = format!("POST/token{time}{nonce}{}", request.body());
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"s"), text.as_bytes());
    assert_eq!(header("x-sign"), format!("v1={}", base64::engine::general_purpose::STANDARD.encode(tag)));
    assert!(request.headers()["x-sign"].is_sensitive() && !request.body().contains("sign"), "{}", request.body());
    let other = code(&it);
    assert_ne!(other.headers()["x-nonce"], request.headers()["x-nonce"], "one request, one value");
}
