//! The page: files embedded in the binary, served compressed, cached for good where their name holds a hash.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::problem::Problem;

#[derive(RustEmbed)]
#[folder = "$WELS_PAGE_DIR"]
struct Files;

/// Encodings the build leaves beside each file, best first.
const ENCODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// Paths that are never a view of the page.
const NOT_THE_PAGE: [&str; 4] = ["/api", "/v1", "/metrics", "/healthz"];

/// The routes' fallback: a file, or a view of the page, or nothing.
pub(crate) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let is_api = NOT_THE_PAGE.iter().any(|prefix| uri.path().starts_with(prefix));
    if is_api {
        return Problem::not_found().into_response();
    }
    if method != Method::GET && method != Method::HEAD {
        return wrong_method().await;
    }
    let is_sibling = ENCODINGS.iter().any(|(_, suffix)| path.ends_with(suffix));
    if !path.is_empty()
        && !is_sibling
        && let Some(file) = Files::get(path)
    {
        return respond(path, &file, &headers);
    }
    let wants_html = accepts(&headers, header::ACCEPT, "text/html");
    let index = Files::get("index.html").filter(|_| wants_html || path.is_empty());
    index.map_or_else(|| Problem::not_found().into_response(), |file| respond("index.html", &file, &headers))
}

/// Known path, unknown method.
pub(crate) async fn wrong_method() -> Response {
    let message = "this address does not answer to that method";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).into_response()
}

fn respond(path: &str, file: &EmbeddedFile, request: &HeaderMap) -> Response {
    let (encoding, encoded) = best_encoding(path, request);
    let suffix = encoding.unwrap_or("id");
    let etag = format!("\"{}-{suffix}\"", hex(&file.metadata.sha256_hash()[..16]));
    let mut response = if is_match(request, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let data = encoded.map_or_else(|| file.data.clone(), |file| file.data);
        Response::new(Body::from(data))
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control(path)));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::ETAG, HeaderValue::try_from(etag).expect("hexadecimal"));
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

/// The best encoding that the client takes and the build made.
fn best_encoding(path: &str, request: &HeaderMap) -> (Option<&'static str>, Option<EmbeddedFile>) {
    let taken = ENCODINGS.iter().filter(|(encoding, _)| accepts(request, header::ACCEPT_ENCODING, encoding));
    let mut made =
        taken.filter_map(|(encoding, suffix)| Some((encoding, Files::get(&format!("{path}{suffix}"))?)));
    made.next().map_or((None, None), |(encoding, file)| (Some(encoding), Some(file)))
}

/// Whether a comma-separated header names `wanted` and does not refuse it with `q=0`.
fn accepts(headers: &HeaderMap, name: header::HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let is_wanted = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
        let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)));
        is_wanted && !refused
    })
}

fn is_match(request: &HeaderMap, etag: &str) -> bool {
    let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|value| value.split(',')).any(|known| known.trim().trim_start_matches("W/") == etag)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names under `assets/` hold a hash of their content.
fn cache_control(path: &str) -> &'static str {
    if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "webmanifest" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
