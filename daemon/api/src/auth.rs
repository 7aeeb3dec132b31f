//! Who is asking: extractors that routes name in their arguments.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use store::{Privilege, SessionId, User, UserId};

use crate::app::App;
use crate::problem::Problem;

/// Over HTTPS this becomes `__Host-sid`: the two are never shared.
const COOKIE: &str = "sid";

/// Seconds a browser keeps the cookie; the store ends sessions unused as long.
const COOKIE_MAX_AGE_S: u64 = 30 * 24 * 3600;

/// The owner number of callers without an account; accounts begin at 1.
const NOBODY: u64 = 0;

/// A signed-in person.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    pub(crate) user: User,
    pub(crate) session: SessionId,
}

impl FromRequestParts<App> for SignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let signed_in = MaybeSignedIn::from_request_parts(parts, app).await?.0;
        signed_in.ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "signed_out", "sign in first"))
    }
}

/// A person, signed in or not.
#[derive(Clone, Debug)]
pub(crate) struct MaybeSignedIn(pub(crate) Option<SignedIn>);

impl FromRequestParts<App> for MaybeSignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Some(token) = session_token(&parts.headers) else { return Ok(Self(None)) };
        let owner = app.store.session_owner(token).await?;
        Ok(Self(owner.map(|owner| SignedIn { user: owner.user, session: owner.session })))
    }
}

/// A signed-in admin.
#[derive(Clone, Debug)]
pub(crate) struct Admin(pub(crate) User);

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let SignedIn { user, .. } = SignedIn::from_request_parts(parts, app).await?;
        if user.role == Privilege::Admin {
            return Ok(Self(user));
        }
        Err(Problem::forbidden("forbidden", "only an admin may do this"))
    }
}

/// A program with a key, or one on this very machine where none is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    /// For the engine: fairness and the prefix cache go by it.
    pub(crate) owner: u64,
}

impl FromRequestParts<App> for Program {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Peer(peer) = Peer::from_request_parts(parts, app).await?;
        if let Some(user) = key_user(&parts.headers, app).await? {
            return Ok(Self { owner: user.id.0.unsigned_abs() });
        }
        if !app.config.require_api_key && peer.is_loopback() {
            return Ok(Self { owner: NOBODY });
        }
        let message =
            "send a valid API key: `Authorization: Bearer wels_…` (made on the box's page, under API keys)";
        Err(Problem::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message))
    }
}

/// Whoever may read the counters: this machine, or the holder of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observer;

impl FromRequestParts<App> for Observer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Peer(peer) = Peer::from_request_parts(parts, app).await?;
        if peer.is_loopback() {
            return Ok(Self);
        }
        Program::from_request_parts(parts, app).await.map(|_| Self)
    }
}

/// The address at the other end of the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl FromRequestParts<App> for Peer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let ConnectInfo(peer) = peer.ok_or_else(|| Problem::internal(&"a connection without a peer"))?;
        Ok(Self(peer.ip().to_canonical()))
    }
}

async fn key_user(headers: &HeaderMap, app: &App) -> Result<Option<User>, Problem> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, key)) = value.and_then(|value| value.split_once(' ')) else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    Ok(app.store.key_owner(key.trim()).await?.map(|owner| owner.user))
}

fn session_token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, token)| token)
}

/// The header that signs a browser in.
pub(crate) fn set_cookie(token: &str) -> (header::HeaderName, HeaderValue) {
    cookie(token, COOKIE_MAX_AGE_S)
}

/// The header that signs a browser out.
pub(crate) fn clear_cookie() -> (header::HeaderName, HeaderValue) {
    cookie("", 0)
}

fn cookie(token: &str, max_age_s: u64) -> (header::HeaderName, HeaderValue) {
    let value = format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age={max_age_s}");
    (header::SET_COOKIE, HeaderValue::try_from(value).expect("tokens are hexadecimal"))
}

/// The engine's number for an account.
pub(crate) fn owner_of(user: UserId) -> u64 {
    user.0.unsigned_abs()
}
