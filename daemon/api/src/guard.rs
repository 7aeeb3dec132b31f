//! What every request must pass before its route: the right host, a claimed box, the right origin.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::{App, Config};
use crate::problem::{Problem, Result};

/// Middleware: refuses what must not reach any route.
pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    match check(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check(app: &App, request: &Request) -> Result<()> {
    let path = request.uri().path();
    let host = host_of(request)?;
    if !is_own_host(&app.config, host) {
        let message =
            "this box does not answer to that host name; use its address, or add the name in its settings";
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", message));
    }
    if !app.is_claimed() && !open_before_claim(app, request) {
        return Err(Problem::forbidden("unclaimed", "this box has no owner yet: open its page and claim it"));
    }
    if path.starts_with("/api/") && !request.method().is_safe() {
        check_origin(request.headers(), host)?;
        check_content_type(request)?;
    }
    Ok(())
}

/// The host the client believes it talks to.
fn host_of(request: &Request) -> Result<&str> {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().authority().map(axum::http::uri::Authority::as_str).or(header);
    host.ok_or_else(|| {
        Problem::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", "the request names no host")
    })
}

/// An allow-list, because a page from anywhere can point its own name at this box (DNS rebinding). An address can't be
/// rebound; a name must be known.
fn is_own_host(config: &Config, host: &str) -> bool {
    let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let own = config.box_name.to_ascii_lowercase();
    address.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || name == own
        || name.strip_suffix(".local") == Some(&own)
        || config.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(&name))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// The claim page and what it needs.
fn open_before_claim(app: &App, request: &Request) -> bool {
    let path = request.uri().path();
    let is_page = !["/api", "/v1", "/metrics"].iter().any(|prefix| path.starts_with(prefix));
    let is_local_program = path.starts_with("/v1/") && !app.config.require_api_key && is_loopback(request);
    is_page || matches!(path, "/api/state" | "/api/claim") || is_local_program
}

fn is_loopback(request: &Request) -> bool {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback())
}

/// A browser names the origin of every request that changes something; it must be this very page.
fn check_origin(headers: &HeaderMap, host: &str) -> Result<()> {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()).unwrap_or_default();
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    let message = "the Origin header must name this box: only its own page may call this";
    Err(Problem::forbidden("bad_origin", message))
}

/// JSON only: a form on a foreign page can't send it unasked.
fn check_content_type(request: &Request) -> Result<()> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = content_type.is_some_and(|value| value.split(';').next() == Some("application/json"));
    if is_json || request.method() == Method::DELETE {
        return Ok(());
    }
    let message = "send application/json";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_and_addresses_are_own_hosts() {
        let config = Config { hosts: vec!["ai.office.example".into()], ..Config::default() };
        for host in [
            "wels",
            "WELS.local",
            "wels.local:8080",
            "wels.local.",
            "localhost:1",
            "10.0.0.7",
            "[::1]:80",
            "[fe80::1]",
            "127.0.0.1:8080",
            "ai.office.example:443",
        ] {
            assert!(is_own_host(&config, host), "{host}");
        }
        for host in
            ["", "evil.example", "wels.local.evil.example", "xwels", "10.0.0.7.nip.io", "local", "1.2.3"]
        {
            assert!(!is_own_host(&config, host), "{host}");
        }
    }
}
