//! What was said: a tree of messages in each chat.
//!
//! ```text
//! question ── answer ── question ── answer
//!    │           └───── answer (regenerated: a sibling)
//! question (edited: a sibling) ── answer
//! ```

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::users::stored_as_text;
use crate::{Chat, ChatId, Error, MessageId, Store, UserId, chats, now_ms, search};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Complete.
    Done,
    /// Being generated.
    Running,
    /// Stopped by the person, or by the end of the daemon.
    Stopped,
    /// Failed; `Message::error` says why.
    Error,
    /// Ended at the limit of tokens.
    Length,
}

stored_as_text!(Role, Role::User = "user", Role::Assistant = "assistant");
stored_as_text!(
    Status,
    Status::Done = "done",
    Status::Running = "running",
    Status::Stopped = "stopped",
    Status::Error = "error",
    Status::Length = "length"
);

/// What an answer cost, and what made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The model's id.
    pub model: String,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Of these, taken from the prefix cache.
    pub n_cached: usize,
    /// Tokens generated.
    pub n_generated: usize,
    /// Waiting.
    pub queue_ms: u64,
    /// Reading the prompt.
    pub prefill_ms: u64,
    /// Writing the answer.
    pub decode_ms: u64,
    /// Tokens a second while writing.
    pub tok_s: f64,
    /// Seed of the sampler.
    pub seed: u64,
    /// What a lossy mode left out, as a share of the experts by weight; `None` where everything was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<f32>,
    /// The graphics card was lost meanwhile, and the processor went on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub card_lost: bool,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// Row.
    pub id: MessageId,
    /// What it answers; `None` begins the chat.
    pub parent_id: Option<MessageId>,
    /// Who speaks.
    pub role: Role,
    /// The text.
    pub content: String,
    /// The model's thoughts.
    pub reasoning: Option<String>,
    /// How long it thought.
    pub reasoning_ms: Option<u64>,
    /// How far it has come.
    pub status: Status,
    /// Why it failed.
    pub error: Option<String>,
    /// Unix ms.
    pub created_at: i64,
    /// What it cost.
    pub receipt: Option<Receipt>,
}

/// An answer, finished or on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The text.
    pub content: String,
    /// The model's thoughts.
    pub reasoning: Option<String>,
    /// How long it thought.
    pub reasoning_ms: Option<u64>,
    /// How far it has come.
    pub status: Status,
    /// Why it failed.
    pub error: Option<String>,
    /// What it cost.
    pub receipt: Option<Receipt>,
}

/// A question that was asked, and the empty answer to it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The chat, with the title it may just have got.
    pub chat: Chat,
    /// The question.
    pub question: Message,
    /// The answer, [`Status::Running`].
    pub answer: Message,
}

impl Store {
    /// All messages of a chat of `owner`, all branches, in the order of writing. Empty where there is none such.
    pub async fn messages(&self, owner: UserId, chat: ChatId) -> Result<Vec<Message>, Error> {
        self.call(move |tx| {
            let sql =
                "SELECT m.id, m.parent_id, m.role, m.content, m.reasoning, m.reasoning_ms, m.status, m.error,
                       m.created_at, m.receipt FROM messages m JOIN chats c ON c.id = m.chat_id
                       WHERE c.id = ?1 AND c.owner_id = ?2 ORDER BY m.id";
            let mut statement = tx.prepare_cached(sql)?;
            let rows = statement.query_map(params![chat, owner], message)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The branch that ends in `leaf`, from the chat's beginning. Empty where `owner` has no such message.
    pub async fn branch(&self, owner: UserId, leaf: MessageId) -> Result<Vec<Message>, Error> {
        self.call(move |tx| {
            let sql = "WITH RECURSIVE branch (id, parent_id) AS (
                         SELECT m.id, m.parent_id FROM messages m JOIN chats c ON c.id = m.chat_id
                         WHERE m.id = ?1 AND c.owner_id = ?2
                         UNION ALL
                         SELECT m.id, m.parent_id FROM messages m JOIN branch b ON m.id = b.parent_id
                       )
                       SELECT m.id, m.parent_id, m.role, m.content, m.reasoning, m.reasoning_ms, m.status, m.error,
                       m.created_at, m.receipt FROM messages m JOIN branch b ON b.id = m.id ORDER BY m.id";
            let mut statement = tx.prepare_cached(sql)?;
            let rows = statement.query_map(params![leaf, owner], message)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Adds a question after `parent` (an answer of the same chat, or the chat's beginning) and an empty answer to it.
    /// `None` where `owner` has no such chat or the chat no such parent. An untitled chat takes `title`.
    pub async fn ask(
        &self,
        owner: UserId,
        chat: ChatId,
        parent: Option<MessageId>,
        content: String,
        title: String,
    ) -> Result<Option<Asked>, Error> {
        self.call(move |tx| {
            let known = match parent {
                Some(parent) => role_of(tx, owner, chat, parent)? == Some(Role::Assistant),
                None => true,
            };
            let Some(found) = chats::find(tx, owner, chat)?.filter(|_| known) else { return Ok(None) };
            if found.title.is_empty() {
                chats::set_title(tx, owner, chat, &title)?;
            }
            let question = insert(tx, chat, parent, Role::User, &content)?;
            search::index_message(tx, question.id, &content)?;
            let answer = insert(tx, chat, Some(question.id), Role::Assistant, "")?;
            let chat = chats::find(tx, owner, chat)?.expect("a chat just found");
            Ok(Some(Asked { chat, question, answer }))
        })
        .await
    }

    /// Adds an empty answer beside `answer`. `None` where `owner` has no such chat or the chat no such answer.
    pub async fn regenerate(
        &self,
        owner: UserId,
        chat: ChatId,
        answer: MessageId,
    ) -> Result<Option<Message>, Error> {
        self.call(move |tx| {
            if role_of(tx, owner, chat, answer)? != Some(Role::Assistant) {
                return Ok(None);
            }
            let parent =
                tx.query_row("SELECT parent_id FROM messages WHERE id = ?1", [answer], |row| row.get(0))?;
            insert(tx, chat, parent, Role::Assistant, "").map(Some)
        })
        .await
    }

    /// Writes an answer of `owner`, on its way or finished; `None` where it was deleted meanwhile.
    pub async fn save_answer(
        &self,
        owner: UserId,
        id: MessageId,
        answer: Answer,
    ) -> Result<Option<Message>, Error> {
        self.call(move |tx| save(tx, owner, id, &answer)).await
    }
}

/// Marks answers that no daemon is writing any more.
pub(crate) fn stop_interrupted(connection: &Connection) -> Result<(), Error> {
    connection.execute("UPDATE messages SET status = 'stopped' WHERE status = 'running'", [])?;
    Ok(())
}

fn save(
    tx: &Transaction<'_>,
    owner: UserId,
    id: MessageId,
    answer: &Answer,
) -> Result<Option<Message>, Error> {
    let Answer { content, reasoning, reasoning_ms, status, error, receipt } = answer;
    let receipt = receipt.as_ref().map(|receipt| serde_json::json!(receipt).to_string());
    let sql = "UPDATE messages SET content = ?3, reasoning = ?4, reasoning_ms = ?5, status = ?6, error = ?7,
               receipt = ?8 WHERE id = ?1 AND chat_id IN (SELECT id FROM chats WHERE owner_id = ?2)";
    let args = params![id, owner, content, reasoning, reasoning_ms, status, error, receipt];
    if tx.prepare_cached(sql)?.execute(args)? == 0 {
        return Ok(None);
    }
    if *status != Status::Running {
        search::index_message(tx, id, content)?;
        touch(tx, id)?;
    }
    find(tx, id)
}

fn insert(
    tx: &Transaction<'_>,
    chat: ChatId,
    parent: Option<MessageId>,
    role: Role,
    content: &str,
) -> Result<Message, Error> {
    let status = if role == Role::User { Status::Done } else { Status::Running };
    let sql = "INSERT INTO messages (chat_id, parent_id, role, content, status, created_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    tx.prepare_cached(sql)?.execute(params![chat, parent, role, content, status, now_ms()])?;
    let id = MessageId(tx.last_insert_rowid());
    touch(tx, id)?;
    Ok(find(tx, id)?.expect("a row just inserted"))
}

/// Moves the message's chat to the top of the list.
fn touch(tx: &Transaction<'_>, id: MessageId) -> Result<(), Error> {
    let sql = "UPDATE chats SET updated_at = ?2 WHERE id = (SELECT chat_id FROM messages WHERE id = ?1)";
    tx.prepare_cached(sql)?.execute(params![id, now_ms()])?;
    Ok(())
}

fn find(tx: &Transaction<'_>, id: MessageId) -> Result<Option<Message>, Error> {
    let sql =
        "SELECT id, parent_id, role, content, reasoning, reasoning_ms, status, error, created_at, receipt
               FROM messages WHERE id = ?1";
    Ok(tx.prepare_cached(sql)?.query_row([id], message).optional()?)
}

/// The role of a message of this owner and this chat.
fn role_of(tx: &Transaction<'_>, owner: UserId, chat: ChatId, id: MessageId) -> Result<Option<Role>, Error> {
    let sql = "SELECT m.role FROM messages m JOIN chats c ON c.id = m.chat_id
               WHERE m.id = ?1 AND c.id = ?2 AND c.owner_id = ?3";
    Ok(tx.prepare_cached(sql)?.query_row(params![id, chat, owner], |row| row.get(0)).optional()?)
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    let receipt: Option<String> = row.get(9)?;
    Ok(Message {
        id: row.get(0)?,
        parent_id: row.get(1)?,
        role: row.get(2)?,
        content: row.get(3)?,
        reasoning: row.get(4)?,
        reasoning_ms: row.get(5)?,
        status: row.get(6)?,
        error: row.get(7)?,
        created_at: row.get(8)?,
        receipt: receipt.and_then(|json| serde_json::from_str(&json).ok()),
    })
}
