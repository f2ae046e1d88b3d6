//! The desk behind HTTP/1.1.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Fallible;
use crate::desk::{Desk, Refusal};

/// Serves one connection to its end.
pub async fn serve(stream: TcpStream, desk: Desk) -> hyper::Result<()> {
    let service = service_fn(move |request| answer(desk.clone(), request));
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(desk: Desk, request: Request<Incoming>) -> Fallible<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    if parts.method == Method::GET {
        return empty(StatusCode::OK);
    }
    let key = parts.headers.get("idempotency-key");
    let Ok(charge) = serde_json::from_slice(&body.collect().await?.to_bytes()) else {
        return empty(StatusCode::BAD_REQUEST);
    };
    match desk
        .charge(charge, key.and_then(|key| key.to_str().ok()))
        .await
    {
        Ok(receipt) => Ok(Response::builder()
            .status(StatusCode::CREATED)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&receipt)?.into())?),
        Err(Refusal::Busy { retry_after }) => Ok(Response::builder()
            .status(StatusCode::SERVICE_UNAVAILABLE)
            .header("retry-after", retry_after.as_secs())
            .body(Full::default())?),
        Err(Refusal::KeyTaken) => empty(StatusCode::UNPROCESSABLE_ENTITY),
    }
}

fn empty(status: StatusCode) -> Fallible<Response<Full<Bytes>>> {
    Ok(Response::builder().status(status).body(Full::default())?)
}
