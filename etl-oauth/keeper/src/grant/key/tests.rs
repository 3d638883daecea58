use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use super::*;

#[test]
fn one_seed_is_one_key_whose_thumbprint_is_that_of_the_standard() {
    let seed = Secret::new(URL_SAFE_NO_PAD.encode([7; 32]));
    let (one, two) = (SigningKey::derived(&seed).unwrap(), SigningKey::derived(&seed).unwrap());
    assert_eq!((one.public_jwk(), one.thumbprint()), (two.public_jwk(), two.thumbprint()));
    let other = SigningKey::derived(&Secret::new(URL_SAFE_NO_PAD.encode([8; 32]))).unwrap();
    assert_ne!(one.thumbprint(), other.thumbprint());
    assert_eq!(SigningKey::from_text(&one.to_text().unwrap()).unwrap().public_jwk(), one.public_jwk());
    assert!(SigningKey::derived(&Secret::new("short")).is_err());
    // RFC 7638 §3.3: the required members, in the order of their names.
    assert!(one.public_jwk().unwrap().to_string().starts_with(r#"{"crv":"P-256","kty":"EC","x":""#));
}

/// The PEM of some DER.
fn pem(label: &str, der: &[u8]) -> Secret {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    Secret::new(format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"))
}

fn parts(token: &Secret) -> (Value, Value, Vec<u8>) {
    let parts: Vec<_> = token.expose().split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    (serde_json::from_slice(&parts[0]).unwrap(), serde_json::from_slice(&parts[1]).unwrap(), parts[2].clone())
}

fn message(token: &Secret) -> &[u8] {
    token.expose().rsplit_once('.').unwrap().0.as_bytes()
}

#[test]
fn a_key_signs_with_the_algorithm_of_its_kind_and_the_signature_verifies() {
    let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let der = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let key = SigningKey::read(&pem("PRIVATE KEY", der.as_ref())).unwrap().with_id(Some("k1".into()));
    let token = key.sign(json!({}), &json!({"iss": "me"})).unwrap();
    let (header, claims, signature) = parts(&token);
    assert_eq!((header, claims), (json!({"alg": "RS256", "kid": "k1"}), json!({"iss": "me"})));
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
    public.verify(message(&token), &signature).unwrap();

    let key = SigningKey::generate().unwrap();
    let token = key.sign(json!({"typ": "t"}), &json!({})).unwrap();
    let (header, _, signature) = parts(&token);
    assert_eq!(header, json!({"alg": "ES256", "typ": "t"}));
    let jwk = key.public_jwk().unwrap();
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).verify(message(&token), &signature).unwrap();
}

#[test]
fn h15_an_rsa_key_signs_as_it_is_told_and_another_key_in_its_own_way() {
    let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let der = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let key = SigningKey::read(&pem("PRIVATE KEY", der.as_ref())).unwrap();
    let verifications: [(&dyn aws_lc_rs::signature::VerificationAlgorithm, RsaAlgorithm); 4] = [
        (&RSA_PKCS1_2048_8192_SHA256, RsaAlgorithm::Rs256),
        (&aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA384, RsaAlgorithm::Rs384),
        (&aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA512, RsaAlgorithm::Rs512),
        (&aws_lc_rs::signature::RSA_PSS_2048_8192_SHA256, RsaAlgorithm::Ps256),
    ];
    for (verification, algorithm) in verifications {
        let token = key.with_algorithm(algorithm).sign(json!({}), &json!({})).unwrap();
        let (header, _, signature) = parts(&token);
        assert_eq!(header["alg"], algorithm.name());
        verification.verify_sig(pair.public_key().as_ref(), message(&token), &signature).unwrap();
    }
    let ec = SigningKey::generate().unwrap().with_algorithm(RsaAlgorithm::Ps256);
    assert_eq!(ec.algorithm(), "ES256");
}

#[test]
fn every_kind_of_private_key_is_told_apart() {
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let ed = Ed25519KeyPair::generate().unwrap();
    for (der, algorithm) in
        [(p384.to_pkcs8v1().unwrap().as_ref().to_vec(), "ES384"), (ed.to_pkcs8v1().unwrap().as_ref().to_vec(), "EdDSA")]
    {
        assert_eq!(SigningKey::read(&pem("PRIVATE KEY", &der)).unwrap().algorithm(), algorithm);
    }
}

#[test]
fn a_service_accounts_file_names_key_and_owner() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let key = pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref());
    let file =
        json!({"type": "service_account", "private_key": key.expose(), "private_key_id": "7f", "client_email": "a@b"});
    let key = SigningKey::read(&Secret::new(file.to_string())).unwrap();
    assert_eq!((key.owner(), key.id.as_deref()), (Some("a@b"), Some("7f")));
}

#[test]
fn what_is_no_key_is_refused_without_a_word_of_it() {
    for text in ["marker", "{\"private_key\":\"marker\"}", "{}", "-----BEGIN PRIVATE KEY-----\nmarker"] {
        let err = SigningKey::read(&Secret::new(text)).unwrap_err();
        assert!(!err.to_string().contains("marker"), "{err}");
    }
    let key = SigningKey::generate().unwrap();
    assert!(!format!("{key:?}").contains(key.to_text().unwrap().expose()));
}

#[test]
fn a_key_of_ours_reads_back_from_its_text() {
    let key = SigningKey::generate().unwrap();
    let again = SigningKey::from_text(&key.to_text().unwrap()).unwrap();
    assert_eq!(again.public_jwk(), key.public_jwk());
    assert!(SigningKey::from_text(&Secret::new("x")).is_err());
}
