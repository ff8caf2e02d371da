//! `/healthz`, `/readyz` and `/metrics`.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::daemon::{Doors, Request, Wanted};
use crate::metrics::Metrics;

/// A loop that has not come round for so long is stuck.
const STUCK: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Shared {
    doors: Doors,
    metrics: Metrics,
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, doors: Doors, metrics: Metrics) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(Shared { doors, metrics });
    axum::serve(listener, router).await
}

/// Binds the address.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        format!("cannot serve metrics and health on {address}: {error}; choose another with --http")
    })
}

/// Alive: the loop comes round.
async fn healthz(State(shared): State<Shared>) -> impl IntoResponse {
    let age = shared.doors.health.borrow().alive.elapsed();
    if age < STUCK {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        let message = format!("the main loop has been stuck for {} s\n", age.as_secs());
        (StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

/// Ready: this node's own work is done. A peer that is down is not this node's failure.
async fn readyz(State(shared): State<Shared>) -> impl IntoResponse {
    let missing = shared.doors.health.borrow().missing.join("\n");
    if missing.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, missing + "\n")
    }
}

async fn render(State(shared): State<Shared>) -> impl IntoResponse {
    let (reply, counted) = tokio::sync::oneshot::channel();
    let what = Wanted::Count;
    if shared.doors.requests.send(Request { what, reply }).await.is_ok() {
        // Without an answer the numbers are those of the last time.
        let _ = tokio::time::timeout(Duration::from_secs(2), counted).await;
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.metrics.render())
}
