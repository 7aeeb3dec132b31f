//! Every route, who may call it, and what answers. The tests walk this same table.

use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, patch, post};
use axum::{Router, middleware};

use crate::app::App;
use crate::guard::guard;
use crate::observe::observe;
use crate::{metrics, openai, page, ui};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody on the network.
    Public,
    /// A program with a key.
    Key,
    /// Whoever is signed in; ids of others' things are not found.
    Session,
    /// A signed-in admin.
    Admin,
}

struct Route {
    method: Method,
    path: &'static str,
    access: Access,
    handler: MethodRouter<App>,
}

#[rustfmt::skip]
fn table() -> Vec<Route> {
    use Access::{Admin, Key, Public, Session};
    let route = |method, path, access, handler| Route { method, path, access, handler };
    vec![
        route(Method::GET, "/healthz", Public, get(metrics::health)),
        route(Method::GET, "/metrics", Key, get(metrics::show)),
        route(Method::POST, "/v1/chat/completions", Key, post(openai::chat)),
        route(Method::GET, "/v1/models", Key, get(openai::models)),
        route(Method::GET, "/v1/models/{*id}", Key, get(openai::model)),
        route(Method::GET, "/api/state", Public, get(ui::account::state)),
        route(Method::POST, "/api/claim", Public, post(ui::account::claim)),
        route(Method::POST, "/api/recover", Public, post(ui::recover::recover)),
        route(Method::POST, "/api/login", Public, post(ui::account::login)),
        route(Method::POST, "/api/logout", Public, post(ui::account::logout)),
        route(Method::PATCH, "/api/me", Session, patch(ui::account::change)),
        route(Method::GET, "/api/sessions", Session, get(ui::account::sessions)),
        route(Method::DELETE, "/api/sessions/{id}", Session, delete(ui::account::end_session)),
        route(Method::GET, "/api/keys", Session, get(ui::keys::list)),
        route(Method::POST, "/api/keys", Session, post(ui::keys::create)),
        route(Method::DELETE, "/api/keys/{id}", Session, delete(ui::keys::revoke)),
        route(Method::GET, "/api/chats", Session, get(ui::chats::list)),
        route(Method::POST, "/api/chats", Session, post(ui::chats::create)),
        route(Method::GET, "/api/chats/search", Session, get(ui::chats::search)),
        route(Method::GET, "/api/chats/{id}", Session, get(ui::chats::show)),
        route(Method::PATCH, "/api/chats/{id}", Session, patch(ui::chats::rename)),
        route(Method::DELETE, "/api/chats/{id}", Session, delete(ui::chats::remove)),
        route(Method::GET, "/api/chats/{id}/export", Session, get(ui::export::export)),
        route(Method::POST, "/api/chats/{id}/messages", Session, post(ui::messages::ask)),
        route(Method::POST, "/api/chats/{id}/regenerate", Session, post(ui::messages::regenerate)),
        route(Method::GET, "/api/runs/{id}/events", Session, get(ui::runs::events)),
        route(Method::POST, "/api/runs/{id}/stop", Session, post(ui::runs::stop)),
        route(Method::GET, "/api/users", Admin, get(ui::users::list)),
        route(Method::POST, "/api/users", Admin, post(ui::users::create)),
        route(Method::PATCH, "/api/users/{id}", Admin, patch(ui::users::change)),
        route(Method::DELETE, "/api/users/{id}", Admin, delete(ui::users::remove)),
        route(Method::GET, "/api/admin/status", Admin, get(ui::status::show)),
        route(Method::GET, "/api/admin/updates", Admin, get(ui::updates::show)),
        route(Method::GET, "/api/admin/updates/events", Admin, get(ui::updates::events)),
        route(Method::POST, "/api/admin/updates/install", Admin, post(ui::updates::install)),
        route(Method::POST, "/api/admin/updates/stop", Admin, post(ui::updates::stop)),
        route(Method::POST, "/api/admin/updates/rollback", Admin, post(ui::updates::rollback)),
        route(Method::DELETE, "/api/admin/updates/versions/{name}/{version}", Admin, delete(ui::updates::remove)),
        route(Method::POST, "/api/admin/updates/restart", Admin, post(ui::updates::restart)),
        route(Method::POST, "/api/admin/updates/dismiss", Admin, post(ui::updates::dismiss)),
        route(Method::POST, "/api/admin/updates/keys", Admin, post(ui::updates::add_key)),
        route(Method::DELETE, "/api/admin/updates/keys/{fingerprint}", Admin, delete(ui::updates::remove_key)),
        route(Method::POST, "/api/admin/backup", Admin, post(ui::updates::backup)),
        route(Method::POST, "/api/admin/restore", Admin, post(ui::updates::restore)),
        route(Method::GET, "/api/admin/measure", Admin, get(ui::measure::show)),
        route(Method::POST, "/api/admin/measure", Admin, post(ui::measure::start)),
        route(Method::POST, "/api/admin/measure/stop", Admin, post(ui::measure::stop)),
        route(Method::POST, "/api/admin/factory-reset", Admin, post(ui::updates::factory_reset)),
    ]
}

/// Method, path pattern and access of every route.
pub fn list() -> Vec<(Method, &'static str, Access)> {
    table().into_iter().map(|route| (route.method, route.path, route.access)).collect()
}

/// The whole service as a tower service. Requests must carry the peer as `ConnectInfo<SocketAddr>`, as
/// [`crate::serve`] gives it.
pub fn router(app: App) -> Router {
    let routes =
        table().into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler));
    routes
        .fallback(page::serve)
        .method_not_allowed_fallback(page::wrong_method)
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .layer(middleware::from_fn_with_state(app.clone(), observe))
        .with_state(app)
}
