//! Errors as clients see them, on both surfaces in OpenAI's shape.
//!
//! ```json
//! {"error": {"message": "…", "type": "invalid_request_error", "param": "temperature", "code": "invalid_value"}}
//! ```

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine::SubmitError;
use serde_json::{Value, json};
use tracing::error;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// For programs.
    pub(crate) code: &'static str,
    /// For people: what, where, what to do.
    pub(crate) message: Cow<'static, str>,
    /// The field at fault.
    pub(crate) param: Option<Cow<'static, str>>,
    /// When it may succeed.
    pub(crate) retry_after: Option<Duration>,
}

pub(crate) type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), param: None, retry_after: None }
    }

    /// 400: the request is at fault.
    pub(crate) fn invalid(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 404.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here")
    }

    /// 403.
    pub(crate) fn forbidden(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// 503: not now.
    pub(crate) fn unavailable(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// 500: our fault. The cause is logged here, and nowhere else.
    pub(crate) fn internal(cause: &dyn std::fmt::Display) -> Self {
        error!(error = %cause, "request failed");
        let message = "an internal error; the box's log says more";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    pub(crate) fn param(self, param: impl Into<Cow<'static, str>>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    pub(crate) fn retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    /// OpenAI's word for the kind of error.
    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut error =
            json!({ "message": self.message, "type": self.kind(), "param": self.param, "code": self.code });
        if let Some(after) = self.retry_after {
            error["retry_after_s"] = json!(whole_seconds(after));
        }
        json!({ "error": error })
    }
}

/// Rounded up: whoever waits this long is not refused again.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000) as u64
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.to_json())).into_response();
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        response
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NameTaken { .. } => {
                Self::new(StatusCode::CONFLICT, "name_taken", error.to_string()).param("name")
            }
            store::Error::LastAdmin => Self::new(StatusCode::CONFLICT, "last_admin", error.to_string()),
            store::Error::TooMany { .. } => Self::new(StatusCode::CONFLICT, "too_many", error.to_string()),
            _ => Self::internal(&error),
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::QueueFull { .. } => {
                Self::unavailable("queue_full", error.to_string()).retry_after(Duration::from_secs(10))
            }
            SubmitError::PromptTooLong { .. } => {
                Self::invalid("context_length_exceeded", error.to_string()).param("messages")
            }
            SubmitError::PromptEmpty => Self::invalid("empty_prompt", error.to_string()).param("messages"),
            SubmitError::UnknownToken { .. } => Self::internal(&error),
            SubmitError::Stopped => Self::unavailable("engine_stopped", error.to_string()),
        }
    }
}
