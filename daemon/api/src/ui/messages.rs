//! Asking in a chat, and having it answered again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{ChatId, Message, MessageId, UserId};
use tracing::{Instrument, info_span};

use crate::app::App;
use crate::auth::SignedIn;
use crate::body::{JsonBody, PathId};
use crate::problem::{Problem, Result};
use crate::runs::Run;
use crate::ui::answer::Task;

/// Bytes of a question.
const QUESTION_BYTES_MAX: usize = 1024 * 1024;

/// Characters of a title that is made from a question.
const TITLE_CHARS: usize = 48;

#[derive(Debug, Deserialize)]
pub(crate) struct Ask {
    content: String,
    parent_id: Option<MessageId>,
    thinking: Option<bool>,
}

/// `POST /api/chats/{id}/messages`: answers at once; the answer is written by a run.
pub(crate) async fn ask(
    State(app): State<App>,
    who: SignedIn,
    PathId(chat): PathId<ChatId>,
    JsonBody(ask): JsonBody<Ask>,
) -> Result<Json<Value>> {
    if ask.content.trim().is_empty() {
        return Err(Problem::invalid("empty_message", "the message is empty").param("content"));
    }
    if ask.content.len() > QUESTION_BYTES_MAX {
        let message = format!("a message has {QUESTION_BYTES_MAX} bytes at most");
        return Err(
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "message_too_large", message).param("content")
        );
    }
    let before = ready_chat(&app, who.user.id, chat).await?;
    let title = title_of(&ask.content);
    let asked = app.store.ask(who.user.id, chat, ask.parent_id, ask.content, title).await?;
    let asked = asked.ok_or_else(Problem::not_found)?;
    let new_title = (asked.chat.title != before).then_some(asked.chat.title);
    let run = start(&app, who.user.id, chat, &asked.answer, new_title, ask.thinking)?;
    let (question, answer) = (asked.question, asked.answer);
    Ok(Json(json!({ "user_message": question, "assistant_message": answer, "run_id": run.id })))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Regenerate {
    message_id: MessageId,
    thinking: Option<bool>,
}

/// `POST /api/chats/{id}/regenerate`: another answer beside the one named.
pub(crate) async fn regenerate(
    State(app): State<App>,
    who: SignedIn,
    PathId(chat): PathId<ChatId>,
    JsonBody(regenerate): JsonBody<Regenerate>,
) -> Result<Json<Value>> {
    ready_chat(&app, who.user.id, chat).await?;
    let answer = app.store.regenerate(who.user.id, chat, regenerate.message_id).await?;
    let answer = answer.ok_or_else(Problem::not_found)?;
    let run = start(&app, who.user.id, chat, &answer, None, regenerate.thinking)?;
    Ok(Json(json!({ "assistant_message": answer, "run_id": run.id })))
}

/// The title of one's own chat, if an answer can be begun in it now.
async fn ready_chat(app: &App, owner: UserId, chat: ChatId) -> Result<String> {
    let found = app.store.chat(owner, chat).await?.ok_or_else(Problem::not_found)?;
    if app.runs.active_in(chat).is_some() {
        let message = "an answer is being written in this chat; stop it or wait for it";
        return Err(Problem::new(StatusCode::CONFLICT, "run_active", message));
    }
    app.slot.require()?;
    Ok(found.title)
}

fn start(
    app: &App,
    owner: UserId,
    chat: ChatId,
    answer: &Message,
    new_title: Option<String>,
    thinking: Option<bool>,
) -> Result<Arc<Run>> {
    let model = app.slot.require()?;
    let run = app.runs.open(owner, chat, answer.id);
    let task = Task { app: app.clone(), run: Arc::clone(&run), model, new_title, thinking };
    let span = info_span!("run", %chat, message = %answer.id);
    app.tasks.spawn(task.write().instrument(span));
    Ok(run)
}

/// The first line of a question, shortened at a word where it has any.
fn title_of(question: &str) -> String {
    let line = question.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    let Some((cut, _)) = line.char_indices().nth(TITLE_CHARS) else { return line };
    let short = &line[..cut];
    let at_word = short.rfind(' ').filter(|&at| at > cut / 2);
    format!("{}…", &short[..at_word.unwrap_or(cut)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_short_and_whole() {
        assert_eq!(title_of("\n  How deep?\nAnd wide?"), "How deep?");
        assert_eq!(title_of(&"鲇".repeat(60)), format!("{}…", "鲇".repeat(48)));
        assert_eq!(
            title_of("The quick brown fish swims under the lazy river bank today"),
            "The quick brown fish swims under the lazy river…"
        );
    }
}
