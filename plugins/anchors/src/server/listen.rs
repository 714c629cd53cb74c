//! The witness's door: HTTP/1.1, plain or in TLS, so many at once and for so long.

use std::convert::Infallible;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use runbook_ledger::witness::REQUEST_BYTES_MAX;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::answer::Reply;
use super::{Error, Witness};
use runbook_wire::tls;

/// Connections at once; further ones wait in the kernel's queue. A ledger needs one for less than a second.
const CONNECTIONS_MAX: usize = 64;

/// For a handshake, for the headers, and for a body.
const PATIENCE: Duration = Duration::from_secs(10);

/// For all of a connection, idle or not.
const CONNECTION: Duration = Duration::from_secs(60);

/// Whether TLS is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plain {
    /// Plain HTTP: on the machine itself, or behind a proxy that speaks TLS.
    Http,
    /// TLS with this certificate (PEM, with its chain) and key.
    Tls(PathBuf, PathBuf),
}

/// Answers until `stop` is done; what is under way then is answered first.
///
/// # Errors
/// When the certificate cannot be used.
pub async fn serve(
    witness: Arc<Witness>,
    listener: TcpListener,
    plain: Plain,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let acceptor = match plain {
        Plain::Http => None,
        Plain::Tls(certificate, key) => Some(acceptor(&certificate, &key).map_err(Error::Settings)?),
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::pin!(stop);
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place.expect("it is never closed"),
            () = &mut stop => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // No file number is free, say: those that are there must end first.
                    tracing::warn!(target: "runbook", "a connection was not taken: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let (witness, acceptor) = (Arc::clone(&witness), acceptor.clone());
        tokio::spawn(async move {
            let _place = place;
            let served = async {
                match acceptor {
                    None => connection(witness, stream).await,
                    Some(acceptor) => match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => connection(witness, stream).await,
                        Ok(Err(error)) => tracing::debug!(target: "runbook", "TLS: {error}"),
                        Err(_) => {}
                    },
                }
            };
            let _ = tokio::time::timeout(CONNECTION, served).await;
        });
    }
    // All places are free once nothing is under way; who dawdles is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(2), places.acquire_many(CONNECTIONS_MAX as u32)).await;
    Ok(())
}

fn acceptor(certificate: &std::path::Path, key: &std::path::Path) -> Result<TlsAcceptor, String> {
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
    let config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(tls::certificates(certificate)?, key)
        .map_err(|error| format!("{}: {error}", certificate.display()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn connection(witness: Arc<Witness>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(move |request| {
        let witness = Arc::clone(&witness);
        async move { Ok::<_, Infallible>(response(answer(witness, request).await)) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(16 << 10).keep_alive(true);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(target: "runbook", "a connection ended early: {error}");
    }
}

async fn answer(witness: Arc<Witness>, request: Request<Incoming>) -> Reply {
    if request.uri().path() != "/add-checkpoint" {
        return Reply::text(StatusCode::NOT_FOUND, "there is nothing here but add-checkpoint");
    }
    if request.method() != Method::POST {
        return Reply::text(StatusCode::METHOD_NOT_ALLOWED, "post a head here");
    }
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect();
    let body = match tokio::time::timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Reply::text(StatusCode::PAYLOAD_TOO_LARGE, "a request has at most 64 KiB"),
        Err(_) => return Reply::text(StatusCode::REQUEST_TIMEOUT, "the request did not come in time"),
    };
    match tokio::task::spawn_blocking(move || witness.add_checkpoint(&body)).await {
        Ok(reply) => reply,
        Err(error) => Reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = reply.status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(reply.content_type));
    response
}
