//! Sends back what it is sent by websocket. The cases of `tests/websocket.rs` run against it.

use axum::{
    Router,
    extract::ws::{Message, WebSocket, WebSocketUpgrade},
    routing::any,
};

pub(crate) async fn handler() -> Result<Router, watchdog::BoxError> {
    let upgrade =
        async |upgrade: WebSocketUpgrade| upgrade.max_message_size(64 << 20).max_frame_size(64 << 20).on_upgrade(echo);
    Ok(Router::new().route("/", any(upgrade)))
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
            break;
        }
    }
}

fn main() -> std::process::ExitCode {
    watchdog::main(handler)
}
