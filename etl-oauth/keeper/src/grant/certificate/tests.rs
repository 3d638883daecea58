use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    grant::{Authority, Credentials, HttpClient},
    provider::{ClientAuth, Definition, Overrides, Provider},
    secrets::Secrets,
    token::{Failure, FailureKind, TokenResponse},
};

/// An authority, and what it has signed.
struct Signer {
    root: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Signer {
    fn new() -> Self {
        let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::new(Vec::new()).unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        Self { root, issuer: Issuer::new(params, key) }
    }

    fn signed(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A token endpoint that accepts certificates of this authority alone, and shows what it got; its address.
    async fn server(&self) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
        let (certificate, key) = self.signed("127.0.0.1");
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let (listener, acceptor) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TlsAcceptor::from(Arc::new(config)));
        let url = format!("https://{}/token", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = Vec::new();
                // The form comes after the empty line, and holds nothing that a header has.
                while !String::from_utf8_lossy(&request).contains("client_id=") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                let told = String::from_utf8_lossy(&request).to_lowercase();
                let proof = told.contains("authorization:") || told.contains("client_secret");
                let body = format!(r#"{{"access_token":"a","proof_beside":{proof}}}"#);
                let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        url
    }

    /// What comes of a renewal with these secrets mounted.
    async fn renewed(&self, token_url: &str, mounted: &[(&str, &str)]) -> Result<TokenResponse, Failure> {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in [("oauth2-client-id", "id")].iter().chain(mounted) {
            std::fs::write(folder.path().join(name), value).unwrap();
        }
        let definition = Definition {
            token_url: Some(token_url.to_owned()),
            client_auth: ClientAuth::TlsClientAuth,
            ..Definition::default()
        };
        let provider = Provider::new("custom", definition, Overrides::default()).unwrap();
        let root = reqwest::Certificate::from_pem(self.root.pem().as_bytes()).unwrap();
        let wire =
            HttpClient::over(move || HttpClient::builder(Duration::from_secs(60)).tls_certs_only([root.clone()]))
                .unwrap();
        let authority = Authority::new(provider, Credentials::mounted(Secrets::new(folder.path(), ""), None), wire);
        authority.refresh(&Secret::new("r"), None, Timestamp::now()).await
    }
}

#[tokio::test]
async fn a_server_that_demands_a_certificate_gets_it_and_no_other_proof() {
    let signer = Signer::new();
    let url = signer.server().await;
    let (certificate, key) = signer.signed("client.example");
    let (pem, key) = (certificate.pem(), key.serialize_pem());
    let mounted = [("oauth2-client-certificate", &*pem), ("oauth2-private-key", &*key)];
    let answer = signer.renewed(&url, &mounted).await.unwrap();
    assert_eq!((answer.access_token.expose(), &answer.rest["proof_beside"]), ("a", &false.into()));

    let (stranger, key) = Signer::new().signed("client.example");
    let (pem, key) = (stranger.pem(), key.serialize_pem());
    let mounted = [("oauth2-client-certificate", &*pem), ("oauth2-private-key", &*key)];
    let refused = signer.renewed(&url, &mounted).await.unwrap_err();
    assert!(matches!(refused.class(), FailureKind::NetworkAmbiguous | FailureKind::NetworkNotSent), "{refused}");

    let missing = signer.renewed(&url, &mounted[..1]).await.unwrap_err();
    assert_eq!(missing.class(), FailureKind::Config);
    assert!(missing.to_string().contains("oauth2-private-key"), "{missing}");
}

#[test]
fn a_certificate_and_a_key_belong_together_and_nothing_of_them_is_shown() {
    let signer = Signer::new();
    let (certificate, key) = signer.signed("client.example");
    let (other, _) = signer.signed("client.example");
    let secret = |text: String| Secret::new(text);
    let (pem, key) = (secret(certificate.pem()), secret(key.serialize_pem()));
    let read = Certificate::read(&pem, &key).unwrap();
    assert_eq!(format!("{read:?}"), "Certificate(..)");
    // With those that lead to the authority behind it, and the key in the same file.
    let chain = secret(format!("{}{}{}", certificate.pem(), signer.root.pem(), key.expose()));
    assert!(Certificate::read(&chain, &key).is_ok());
    let read = |certificate: &Secret, key: &Secret| Certificate::read(certificate, key).unwrap_err();
    assert_eq!(read(&secret(other.pem()), &key), CertificateError::OtherKey);
    assert_eq!(read(&pem, &Secret::new("marker")), CertificateError::OtherKey);
    for text in ["marker", "", key.expose()] {
        let err = read(&Secret::new(text), &key);
        assert_eq!(err, CertificateError::NotACertificate, "{text}");
        assert!(!err.to_string().contains("marker"));
    }
}

#[test]
fn the_end_of_a_certificate_is_read_from_its_validity() {
    let end = |year: i32| {
        let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 3, 7);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Certificate::not_after(&Secret::new(certificate.pem()))
    };
    // Until 2049 a certificate writes two digits of the year.
    for year in [2027, 2049, 2050, 2112] {
        assert_eq!(end(year), Some(format!("{year}-03-07T00:00:00Z").parse().unwrap()));
    }
    assert_eq!(Certificate::not_after(&Secret::new("no certificate")), None);
    let cut = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n-----END CERTIFICATE-----\n";
    assert_eq!(Certificate::not_after(&Secret::new(cut)), None);
}
