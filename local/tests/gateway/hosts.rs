//! The hosts that gateway and sandbox answer to.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ECHO;
use crate::support::{Place, Seen};

#[tokio::test]
async fn s20_requests_for_other_hosts_are_refused_on_every_route_of_gateway_and_sandbox() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let urls = running.local.urls();
    for (url, path) in [
        (&urls.gateway, "/function/echo"),
        (&urls.gateway, "/async-function/echo"),
        (&urls.gateway, "/system/functions"),
        (&urls.gateway, "/local/build/echo"),
        (&urls.gateway, "/healthz"),
        (urls.provider.as_ref().unwrap(), "/admin/faults"),
        (urls.provider.as_ref().unwrap(), "/oauth/authorize"),
        (urls.provider.as_ref().unwrap(), "/v2/sales"),
    ] {
        let address = url.replace("http://", "");
        let port = address.rsplit_once(':').unwrap().1;
        let status = async |target: &str, hosts: &[&str]| {
            let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let request = format!("GET {target} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer[9..12].parse::<u16>().unwrap()
        };
        for host in ["evil.example", &format!("evil.example:{port}"), &format!("127.0.0.1.evil.example:{port}")] {
            assert_eq!(status(path, &[host]).await, 421, "{path} {host}");
        }
        assert_eq!(status(&format!("http://evil.example{path}"), &["localhost"]).await, 421, "{path}");
        assert_eq!(status(path, &["localhost", "localhost"]).await, 400, "{path}");
        assert_eq!(status(path, &[]).await, 400, "{path}");
        for host in ["localhost", &format!("localhost:{port}"), &address] {
            assert!(![400, 421].contains(&status(path, &[host]).await) || path.contains("authorize"), "{path} {host}");
        }
    }
    let refused = running.http.get(running.at("/healthz")).header("host", "evil.example").send().await.unwrap();
    assert!(refused.text().await.unwrap().contains("--allowed-host"));
    running.local.stop().await;
}

#[tokio::test]
async fn a_name_that_is_allowed_is_answered_to() {
    let place = Place::new(ECHO);
    let options = local::Options { allowed_hosts: vec!["tunnel.example".to_owned()], ..place.options(&["echo"]) };
    let local = local::Local::start(options).await.unwrap();
    let url = local.urls().functions["echo"].clone();
    let answer = reqwest::Client::new().get(url).header("host", "tunnel.example").send().await.unwrap();
    assert_eq!(Seen::of(answer).await.headers("x-forwarded-host"), ["tunnel.example"]);
    local.stop().await;
}
