//! Asks a control node over its management socket: one HTTP request on a unix stream socket.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use platform::failure::Failure;
use platform::management::{CAPTURE_HEADER, Refusal};

/// How long an answer may take. A control node answers within milliseconds; it asks its nodes for their counters
/// and waits for them a second at most.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Longest answer that is read: some 300,000 counters.
const ANSWER_LEN_MAX: usize = 32 << 20;

/// Connects to the first of `sockets` that somebody listens on, and gives the body of the answer.
///
/// # Errors
///
/// When nobody listens, the control node refuses, or no answer comes in time.
pub fn ask(sockets: &[PathBuf], method: &Method, path: &str, body: Option<String>) -> Result<Bytes, Failure> {
    let stream = connect_any(sockets)?;
    let (status, body) = block_on(async {
        match tokio::time::timeout(ANSWER_TIME, exchange(stream, method, path, body)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Failure::runtime(format!("the control node gave no answer: {error}"))
                .hint("see whether it still runs, and what it logs")),
            Err(_) => Err(Failure::runtime(format!(
                "the control node gave no answer in {} s",
                ANSWER_TIME.as_secs()
            ))
            .hint("see what it logs")),
        }
    })??;
    if status == StatusCode::OK {
        return Ok(body);
    }
    Err(refusal(status, &body))
}

/// Runs `future` to its end.
///
/// # Errors
///
/// When the system has nothing to wait with.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::runtime(format!("cannot wait for an answer: {error}")))?;
    Ok(runtime.block_on(future))
}

/// The answer to a capture, which comes for as long as somebody reads it.
pub struct Stream {
    body: Incoming,
    /// Number of the capture.
    id: u32,
}

impl Stream {
    /// Asks for a capture.
    ///
    /// # Errors
    ///
    /// When nobody listens, the control node refuses, or no answer comes in time.
    pub async fn open(sockets: &[PathBuf], path: &str, body: String) -> Result<Self, Failure> {
        let failed = |error: String| {
            Failure::runtime(format!("the control node gave no answer: {error}"))
                .hint("see whether it still runs, and what it logs")
        };
        let sender = handshake(connect_any(sockets)?).await;
        let mut sender = sender.map_err(|error| failed(error.to_string()))?;
        let request = request(&Method::POST, path, body).map_err(|error| failed(error.to_string()))?;
        let answer = tokio::time::timeout(ANSWER_TIME, sender.send_request(request)).await;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        if status != StatusCode::OK {
            let body = Limited::new(answer.into_body(), ANSWER_LEN_MAX).collect().await;
            return Err(refusal(status, &body.map(http_body_util::Collected::to_bytes).unwrap_or_default()));
        }
        let id = answer.headers().get(CAPTURE_HEADER).and_then(|id| id.to_str().ok()?.parse().ok());
        let id = id.ok_or_else(|| failed("it does not number its captures".to_owned()))?;
        Ok(Self { body: answer.into_body(), id })
    }

    /// The next octets; none at the end.
    pub async fn piece(&mut self) -> Option<Bytes> {
        self.body.frame().await?.ok()?.into_data().ok()
    }

    /// Asks for the end. When that goes wrong the connection will close, which is one too.
    pub async fn end(&self, sockets: &[PathBuf]) {
        let (method, path, body) = crate::capture::end_request(self.id);
        if let Ok(stream) = connect_any(sockets) {
            let _ = exchange(stream, &method, path, Some(body)).await;
        }
    }
}

/// Speaks HTTP over `stream`, in a task of its own.
async fn handshake(stream: UnixStream) -> Result<SendRequest<Full<Bytes>>, ExchangeError> {
    stream.set_nonblocking(true)?;
    let stream = TokioIo::new(tokio::net::UnixStream::from_std(stream)?);
    let (sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    // Its end is seen where its answers are read.
    tokio::spawn(async { drop(connection.await) });
    Ok(sender)
}

fn request(method: &Method, path: &str, body: String) -> Result<Request<Full<Bytes>>, ExchangeError> {
    Ok(Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))?)
}

fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) if !refusal.error.is_empty() => Failure::runtime(refusal.error).hint(refusal.hint),
        _ => Failure::runtime(format!("the control node answered {status}"))
            .hint("use a switchctl of the same version as the control node"),
    }
}

fn connect_any(sockets: &[PathBuf]) -> Result<UnixStream, Failure> {
    let (mut refused, mut is_denied) = (Vec::new(), false);
    for socket in sockets {
        match connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                is_denied |= error.kind() == io::ErrorKind::PermissionDenied;
                refused.push(format!("{}: {error}", socket.display()));
            }
        }
    }
    let hint = if is_denied {
        "run as the user who started the control node, or as root"
    } else {
        "start one with `switch-server run FILE --name NAME` or `switch-server lab FILE`; in a lab, \
         `switchctl -f FILE restart NAME` starts a dead one"
    };
    Err(Failure::runtime(format!("no control node answers: {}", refused.join("; "))).hint(hint))
}

/// Connects to a unix socket at a path of any length. A socket address holds 107 octets of path; a longer one is
/// reached through a descriptor of its folder.
pub fn connect(socket: &Path) -> io::Result<UnixStream> {
    /// `sizeof(sockaddr_un.sun_path)` less the terminating zero.
    const SOCKET_PATH_LEN_MAX: usize = 107;
    if socket.as_os_str().len() <= SOCKET_PATH_LEN_MAX {
        return UnixStream::connect(socket);
    }
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = File::open(folder)?;
    UnixStream::connect(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
}

type ExchangeError = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    stream: UnixStream,
    method: &Method,
    path: &str,
    body: Option<String>,
) -> Result<(StatusCode, Bytes), ExchangeError> {
    let mut sender = handshake(stream).await?;
    let request = request(method, path, body.unwrap_or_default())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_LEN_MAX).collect().await?;
    Ok((status, body.to_bytes()))
}
