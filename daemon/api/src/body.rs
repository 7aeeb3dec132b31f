//! Request bodies and path parts, with errors that say where.

use std::str::FromStr;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::app::App;
use crate::problem::{Problem, Result};

/// Bytes of JSON a request may have.
pub(crate) const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of a body too large that are still read, so that the client gets to read the answer.
const DISCARD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Time for a body to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// A JSON body.
#[derive(Clone, Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self> {
        let late =
            |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body took too long to arrive");
        let bytes = timeout(BODY_TIME_MAX, read(request.into_body())).await.map_err(late)??;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| not_json(&error))
    }
}

/// Reads a body up to its limit; what is beyond is discarded, then refused.
async fn read(body: Body) -> Result<Vec<u8>> {
    let claimed = body.size_hint().lower() as usize;
    let mut bytes = Vec::with_capacity(claimed.min(64 * 1024));
    let mut n_read = 0;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::invalid("body_broken", "the body ended early"))?;
        n_read += chunk.len();
        if n_read <= BODY_BYTES_MAX {
            bytes.extend_from_slice(&chunk);
        } else if n_read > DISCARD_BYTES_MAX {
            break;
        }
    }
    if n_read > BODY_BYTES_MAX {
        let message =
            format!("the body is larger than {BODY_BYTES_MAX} bytes (4 MiB), the most this box reads");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message));
    }
    Ok(bytes)
}

fn not_json(error: &serde_json::Error) -> Problem {
    let code = if error.is_data() { "invalid_value" } else { "invalid_json" };
    let message = match error.classify() {
        serde_json::error::Category::Data => format!("the JSON does not fit: {error}"),
        _ => format!("the body is not JSON: {error}"),
    };
    Problem::invalid(code, message)
}

/// The id in a path. One that can't be read is one that doesn't exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathId<T>(pub(crate) T);

impl<T: FromStr + Send> FromRequestParts<App> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        let id = path.ok().and_then(|Path(id)| id.parse().ok());
        id.map(Self).ok_or_else(Problem::not_found)
    }
}

/// The query of the address.
#[derive(Clone, Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let query = Query::<T>::from_request_parts(parts, app).await;
        query
            .map(|Query(params)| Self(params))
            .map_err(|error| Problem::invalid("invalid_value", error.body_text()))
    }
}
