use std::{sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, crypto::aws_lc_rs::default_provider};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{
    grant::{HttpClient, TokenRequest},
    token::{Failure, FailureKind},
};

/// What is told of a request to `url` by a client that knows these authorities alone.
async fn told(url: &str, roots: &[reqwest::Certificate]) -> Failure {
    let roots = roots.to_vec();
    let client = HttpClient::over(move || {
        HttpClient::builder(Duration::from_secs(10)).tls_certs_only(roots.clone()).dns_resolver(NoNames)
    });
    client.unwrap().send(TokenRequest::get(url.parse().unwrap())).await.unwrap_err().into_failure()
}

/// A resolver that knows no name, as of a container without DNS.
struct NoNames;

impl reqwest::dns::Resolve for NoNames {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async { Err("failed to lookup address information: Name or service not known".into()) })
    }
}

/// A TLS server on loopback with a certificate that is good until `end`; its address, and its authority.
async fn server(end: i32) -> (String, reqwest::Certificate) {
    let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::new(Vec::new()).unwrap());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Two authorities of one name would be taken for one.
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("authority of {end}"));
    let root = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(end, 1, 1);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let (listener, acceptor) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), TlsAcceptor::from(Arc::new(config)));
    let url = format!("https://{}/token?secret=marker", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    (url, reqwest::Certificate::from_pem(root.pem().as_bytes()).unwrap())
}

#[tokio::test]
async fn o6_the_host_and_the_cause_are_told_and_nothing_else_of_the_address() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (good, authority) = server(2100).await;
    let (expired, its_authority) = server(2020).await;
    let other = [authority];
    for (url, roots, wanted) in [
        (
            "https://login.example.com/token?secret=marker",
            &other[..],
            "the name login.example.com could not be resolved",
        ),
        (&format!("http://{closed}/token?secret=marker"), &other, &format!("{closed} refused the connection")),
        (&expired, std::slice::from_ref(&its_authority), "the certificate of 127.0.0.1 has expired"),
        (
            &good,
            std::slice::from_ref(&its_authority),
            "the certificate of 127.0.0.1 is signed by an authority that is not known here",
        ),
    ] {
        let failure = told(url, roots).await;
        let text = failure.to_string();
        assert_eq!(failure.class(), FailureKind::NetworkNotSent, "{text}");
        assert!(text.contains(wanted), "{text}");
        assert!(!text.contains("marker") && !text.contains("/token"), "{text}");
    }
}

#[tokio::test]
async fn o6_a_server_that_does_not_answer_in_time_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    let client = HttpClient::http(Duration::from_millis(50)).unwrap();
    let request = TokenRequest::get(format!("http://{place}/token").parse().unwrap());
    let failure = client.send(request).await.unwrap_err().into_failure();
    assert_eq!(failure.class(), FailureKind::NetworkAmbiguous);
    assert!(failure.to_string().contains(&format!("{place} did not answer in time")), "{failure}");
}
