//! The management interface: what `switchctl` asks and orders, as JSON over HTTP on a unix socket, and metrics in
//! Prometheus text over TCP. Runs in the control thread; the types are those of [`platform::management`].

mod apply;
mod capture;
mod capture_points;
mod frame_text;
mod metrics;
mod pcapng;
mod tables;
mod trace;
mod trace_frame;
mod view;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use platform::management::{
    ApplyRequest, CAPTURE_HEADER, CaptureEnd, CaptureRequest, Drain, Fault, Refusal, RviDrill, TraceRequest,
};
use serde::Serialize;

use crate::runtime::PumpGone;

pub use self::view::Applied;
pub use self::view::{Drill, View};

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub enum Refused {
    /// The request is wrong.
    Request(Refusal),
    /// The data worker does not answer.
    Pump(PumpGone),
}

impl From<PumpGone> for Refused {
    fn from(gone: PumpGone) -> Self {
        Self::Pump(gone)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(refusal) => f.write_str(&refusal.error),
            Self::Pump(gone) => write!(f, "{gone}"),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Request(refusal) => (StatusCode::BAD_REQUEST, Json(refusal)).into_response(),
            Self::Pump(gone) => {
                let refusal = Refusal { error: gone.to_string(), hint: "try again in a moment".to_owned() };
                (StatusCode::SERVICE_UNAVAILABLE, Json(refusal)).into_response()
            }
        }
    }
}

type Shared = State<Arc<View>>;
type Answer<T> = Result<Json<T>, Refused>;

/// Serves the management interface on `listener` for as long as it is polled.
///
/// # Errors
///
/// When the listener cannot be used.
pub async fn serve(listener: UnixListener, view: Arc<View>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    axum::serve(tokio::net::UnixListener::from_std(listener)?, routes(view)).await
}

fn routes(view: Arc<View>) -> Router {
    Router::new()
        .route("/v1/status", get(|State(view): Shared| async move { json(view.status().await) }))
        .route("/v1/nodes", get(|State(view): Shared| async move { json(view.nodes().await) }))
        .route("/v1/lans", get(|State(view): Shared| async move { json(view.lans().await) }))
        .route("/v1/rvis", get(|State(view): Shared| async move { json(view.rvis().await) }))
        .route("/v1/bindings", get(|State(view): Shared| async move { json(view.bindings().await) }))
        .route("/v1/groups", get(|State(view): Shared| async move { json(view.groups().await) }))
        .route("/v1/uplinks", get(|State(view): Shared| async move { json(view.uplinks().await) }))
        .route("/v1/clusters", get(|State(view): Shared| async move { json(view.clusters().await) }))
        .route("/v1/drops", get(|State(view): Shared| async move { json(view.drops().await) }))
        .route("/v1/counters", get(|State(view): Shared| async move { json(view.counters().await) }))
        .route("/v1/rvi/cut", post(|view: Shared, body: Body<RviDrill>| drill(view, body, Drill::Cut)))
        .route("/v1/rvi/heal", post(|view: Shared, body: Body<RviDrill>| drill(view, body, Drill::Heal)))
        .route("/v1/fault", post(fault))
        .route("/v1/drain", post(drain))
        .route("/v1/capture", post(capture))
        .route("/v1/capture/end", post(end_capture))
        .route("/v1/trace", post(trace))
        .route("/v1/apply", post(apply))
        .fallback(|| async {
            (StatusCode::NOT_FOUND, Json(refusal("there is no such resource", "see switchctl --help")))
        })
        .with_state(view)
}

type Body<T> = Result<Json<T>, JsonRejection>;

async fn drill(State(view): Shared, body: Body<RviDrill>, drill: Drill) -> Response {
    match body {
        Ok(Json(pair)) => json(view.drill(drill, &pair).await).into_response(),
        Err(rejection) => refuse_body(&rejection, "see switchctl rvi --help"),
    }
}

async fn fault(State(view): Shared, body: Body<Fault>) -> Response {
    match body {
        Ok(Json(order)) => json(view.fault(&order).await).into_response(),
        Err(rejection) => refuse_body(&rejection, "see switchctl fault --help"),
    }
}

async fn drain(State(view): Shared, body: Body<Drain>) -> Response {
    match body {
        Ok(Json(order)) => json(view.drain(&order).await).into_response(),
        Err(rejection) => refuse_body(&rejection, "see switchctl drain --help"),
    }
}

async fn trace(State(view): Shared, body: Body<TraceRequest>) -> Response {
    match body {
        Ok(Json(request)) => json(view.trace(&request).await).into_response(),
        Err(rejection) => refuse_body(&rejection, "see switchctl trace --help"),
    }
}

async fn apply(State(view): Shared, body: Body<ApplyRequest>) -> Response {
    match body {
        Ok(Json(request)) => json(view.apply(&request).await).into_response(),
        Err(rejection) => refuse_body(&rejection, "see switchctl apply --help"),
    }
}

/// Answers with pcapng for as long as it comes.
async fn capture(State(view): Shared, body: Body<CaptureRequest>) -> Response {
    let request = match body {
        Ok(Json(request)) => request,
        Err(rejection) => return refuse_body(&rejection, "see switchctl capture --help"),
    };
    match View::capture(&view, &request).await {
        Ok((id, section)) => {
            let kind = (header::CONTENT_TYPE, "application/x-pcapng".to_owned());
            let number = (header::HeaderName::from_static(CAPTURE_HEADER), id.to_string());
            ([kind, number], axum::body::Body::new(section)).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

async fn end_capture(State(view): Shared, body: Body<CaptureEnd>) -> Response {
    match body {
        Ok(Json(end)) => json(view.end_capture(end)).into_response(),
        Err(rejection) => refuse_body(&rejection, "see switchctl capture --help"),
    }
}

fn refuse_body(rejection: &JsonRejection, hint: &str) -> Response {
    Refused::Request(refusal(&rejection.body_text(), hint)).into_response()
}

fn json<T: Serialize>(result: Result<T, Refused>) -> Answer<T> {
    result.map(Json)
}

/// A refusal with a hint.
pub(crate) fn refusal(error: &str, hint: &str) -> Refusal {
    Refusal { error: error.to_owned(), hint: hint.to_owned() }
}

/// Listens for those who collect metrics.
///
/// # Errors
///
/// What the system says.
pub fn listen_metrics(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves `/metrics` and `/health`, for as long as it is polled; for ever when there is no listener.
///
/// # Errors
///
/// When the listener cannot be used.
pub async fn serve_metrics(listener: Option<std::net::TcpListener>, view: Arc<View>) -> io::Result<()> {
    let Some(listener) = listener else { return std::future::pending().await };
    let routes = Router::new()
        .route("/metrics", get(|State(view): Shared| async move { metrics_text(&view).await }))
        .route("/health", get(|State(view): Shared| async move { health(&view).await }))
        .with_state(view);
    axum::serve(tokio::net::TcpListener::from_std(listener)?, routes).await
}

async fn metrics_text(view: &View) -> Response {
    match view.machine_status().await {
        Ok(status) => {
            let text = metrics::render(&status, view.uptime().as_secs());
            // The content type of Prometheus' text format, version 0.0.4.
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
        }
        Err(gone) => Refused::Pump(gone).into_response(),
    }
}

async fn health(view: &View) -> Response {
    match view.machine_status().await {
        Ok(_) => (StatusCode::OK, "ok\n").into_response(),
        Err(gone) => (StatusCode::SERVICE_UNAVAILABLE, format!("{gone}\n")).into_response(),
    }
}
