use futures_util::{StreamExt, stream::select_all};
use kube::api::{WatchEvent, WatchParams};

use super::{Failed, Inner};
use crate::store::{Kind, StoreError, watch::Told};

/// One round: until the first of its watches ends, which the server does every few minutes. Each begins with the Secrets as
/// they are, so that nothing that happened between two rounds is missed.
pub(super) async fn watch(inner: &Inner, kind: Kind, sender: &Told) -> Result<(), StoreError> {
    let targets = match inner.named_keys(kind).await? {
        Some(keys) => {
            // Rights to one Secret cover a watch of exactly that one.
            let field = |key| format!("metadata.name={}", inner.name(key));
            keys.iter().map(|key| WatchParams::default().fields(&field(key))).collect()
        }
        None => vec![WatchParams::default().labels(&inner.selector(kind))],
    };
    let mut streams = Vec::new();
    for target in targets {
        let stream = inner.ask("watch Secrets", inner.secrets.watch_metadata(&target, "0")).await?;
        streams.push(stream.map(Some).chain(futures_util::stream::iter([None])).boxed());
    }
    let mut events = select_all(streams);
    while let Some(event) = events.next().await {
        let secret = match event {
            Some(Ok(WatchEvent::Added(secret) | WatchEvent::Modified(secret) | WatchEvent::Deleted(secret))) => secret,
            Some(Ok(WatchEvent::Bookmark(_))) => continue,
            Some(Ok(WatchEvent::Error(_))) | None => return Ok(()),
            Some(Err(err)) => return inner.ask("watch Secrets", async { Err(err) }).await.map_err(Failed::into),
        };
        let key = secret.metadata.name.as_deref().and_then(|name| inner.key(kind, name));
        if let Some(key) = key
            && sender.send(key).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        time::Duration,
    };

    use axum::{
        Json, Router,
        body::Body,
        extract::Query,
        response::{IntoResponse, Response},
        routing::{get, post},
    };
    use futures_util::{StreamExt, stream};
    use http::StatusCode;
    use serde_json::{Value, json};

    use crate::{
        secrets::Secrets,
        store::{ByteStore, Key, Kind, Kubernetes, StoreOptions},
    };

    fn secret(version: u32) -> Value {
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
               "metadata": {"name": "etl-token-default", "resourceVersion": version.to_string()}})
    }

    fn gone() -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
               "message": "too old resource version: 1 (7)"})
    }

    /// Events, and then a connection that stays open without another word.
    fn events(events: &[(&str, Value)]) -> Response {
        let line = |(kind, object): &(&str, Value)| format!("{}\n", json!({"type": kind, "object": object}));
        let lines: Vec<_> = events.iter().map(|event| Ok::<_, std::io::Error>(line(event))).collect();
        Body::from_stream(stream::iter(lines).chain(stream::pending())).into_response()
    }

    /// The API server cannot be made to forget at will, so this one says what it says then: 410, as an event in the midst of a
    /// watch, and as the answer to one that begins.
    #[tokio::test]
    async fn a_watch_whose_beginning_the_server_has_forgotten_begins_anew() {
        let begun = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&begun);
        let watch = move |Query(query): Query<Vec<(String, String)>>| async move {
            let asked = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
            assert_eq!(asked("resourceVersion"), Some("0"), "from what there is, not from where it broke");
            match count.fetch_add(1, Ordering::Relaxed) {
                0 => events(&[("ADDED", secret(1)), ("ERROR", gone())]),
                1 => (StatusCode::GONE, Json(gone())).into_response(),
                _ => events(&[("ADDED", secret(7)), ("MODIFIED", secret(8))]),
            }
        };
        let rules = json!({"kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1", "spec": {}, "status": {
            "incomplete": false, "nonResourceRules": [], "resourceRules": [{
                "apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch"],
                "resourceNames": ["etl-token-default"]}]}});
        let app = Router::new()
            .route("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", post(async || Json(rules)))
            .route("/api/v1/namespaces/functions/secrets", get(watch));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let mut options = StoreOptions::new("etl", Secrets::new("/nonexistent", ""));
        options.namespace = Some("functions".into());
        let store = Kubernetes::with_config(kube::Config::new(url.parse().unwrap()), &options).unwrap();
        let mut changes = store.changes(Kind::TOKEN).unwrap();
        for _ in 0..3 {
            let told = tokio::time::timeout(Duration::from_secs(30), changes.recv()).await;
            assert_eq!(told.expect("the watch goes on"), Some(Key::default()));
        }
        assert_eq!(begun.load(Ordering::Relaxed), 3);
    }
}
