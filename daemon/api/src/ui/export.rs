//! A chat to take away, as Markdown or JSON.

use std::fmt::Write;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use store::{Chat, ChatId, Message, Role};

use crate::app::App;
use crate::auth::SignedIn;
use crate::body::{Params, PathId};
use crate::problem::{Problem, Result};

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Md,
    Json,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Export {
    #[serde(default)]
    format: Format,
}

/// `GET /api/chats/{id}/export?format=`: Markdown holds the newest branch, JSON all of them.
pub(crate) async fn export(
    State(app): State<App>,
    who: SignedIn,
    PathId(id): PathId<ChatId>,
    Params(export): Params<Export>,
) -> Result<Response> {
    let chat = app.store.chat(who.user.id, id).await?.ok_or_else(Problem::not_found)?;
    let messages = app.store.messages(who.user.id, id).await?;
    let (content_type, suffix, text) = match export.format {
        Format::Md => ("text/markdown; charset=utf-8", "md", markdown(&chat, &messages)),
        Format::Json => {
            ("application/json", "json", json!({ "chat": chat, "messages": messages }).to_string())
        }
    };
    let disposition = format!("attachment; filename=\"wels-chat-{id}.{suffix}\"");
    let disposition = HeaderValue::try_from(disposition).expect("a number in ASCII");
    let content_type = HeaderValue::from_static(content_type);
    Ok(([(header::CONTENT_TYPE, content_type), (header::CONTENT_DISPOSITION, disposition)], text)
        .into_response())
}

fn markdown(chat: &Chat, messages: &[Message]) -> String {
    let mut branch: Vec<&Message> = Vec::new();
    let mut next = messages.last().map(|message| message.id);
    for message in messages.iter().rev() {
        if Some(message.id) == next {
            next = message.parent_id;
            branch.push(message);
        }
    }
    let mut out = format!("# {}\n", chat.title);
    for message in branch.iter().rev() {
        let speaker = match message.role {
            Role::User => "User",
            Role::Assistant => "Assistant",
        };
        write!(out, "\n## {speaker}\n\n{}\n", message.content).expect("writing to memory");
    }
    out
}
