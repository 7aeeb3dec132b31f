//! `GET /v1/models` and `/v1/models/{id}`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::Program;
use crate::problem::{Problem, Result};
use crate::slot::ServedModel;

/// `GET /v1/models`: the installed model, or an empty list.
pub(crate) async fn models(State(app): State<App>, _: Program) -> Json<Value> {
    let data: Vec<Value> = app.slot.get().iter().map(|model| entry(model)).collect();
    Json(json!({ "object": "list", "data": data }))
}

/// `GET /v1/models/{id}`.
pub(crate) async fn model(State(app): State<App>, _: Program, Path(id): Path<String>) -> Result<Json<Value>> {
    let installed = app.slot.get().filter(|model| model.id == id);
    installed.map(|model| Json(entry(&model))).ok_or_else(|| unknown_model(&id))
}

/// The answer to a wrong model name.
pub(crate) fn unknown_model(id: &str) -> Problem {
    let shown: String = id.chars().take(100).collect();
    let message = format!("the model {shown:?} is not installed; GET /v1/models lists what is");
    Problem::new(StatusCode::NOT_FOUND, "model_not_found", message).param("model")
}

/// OpenAI's fields, and what else is known.
fn entry(model: &ServedModel) -> Value {
    json!({
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": "wels",
        "name": model.name,
        "context_length": model.info.context,
        "bytes": model.info.bytes,
        "format": model.info.format,
        "source": model.info.source,
    })
}
