//! Full-text search over one's own chats, Chinese, Japanese and Korean included.
//!
//! SQLite's tokenizers see a Chinese sentence as one word (`unicode61`) or miss words of two characters (`trigram`),
//! so the terms are made here: words as they are, and runs of CJK characters as overlapping pairs plus the last
//! character alone. `服务器繁忙 now` is indexed as `服务 务器 器繁 繁忙 忙 now`; a search for `繁忙` is a search for that
//! pair, one for `器繁忙` for the pairs `器繁 繁忙` in a row, one for `忙` for terms that begin with it.

use rusqlite::{Transaction, params};
use serde::Serialize;

use crate::{ChatId, Error, MessageId, Store, UserId};

/// Chats found at most.
pub const HITS_MAX: usize = 50;

/// Terms of a query that are looked for.
const QUERY_TERMS_MAX: usize = 32;

/// Characters of a snippet before and after the place found.
const SNIPPET_CHARS: usize = 40;

/// A chat in which something was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchHit {
    /// The chat.
    pub id: ChatId,
    /// Its title.
    pub title: String,
    /// Unix ms.
    pub updated_at: i64,
    /// The place in its newest matching message; empty where only the title matched.
    pub snippet: String,
}

impl Store {
    /// Chats of `owner` with a message or a title that holds every term of `query`, the newest first.
    pub async fn search(&self, owner: UserId, query: &str) -> Result<Vec<SearchHit>, Error> {
        let runs: Vec<Run> = runs(query).take(QUERY_TERMS_MAX).collect();
        let Some(wanted) = runs.first().map(|run| run.text.clone()) else { return Ok(Vec::new()) };
        let pattern = pattern(&runs);
        self.call(move |tx| {
            let sql = "WITH hits (chat_id, message_id) AS (
                         SELECT m.chat_id, m.id FROM message_terms t JOIN messages m ON m.id = t.rowid
                         JOIN chats c ON c.id = m.chat_id WHERE message_terms MATCH ?2 AND c.owner_id = ?1
                         UNION ALL
                         SELECT c.id, NULL FROM title_terms t JOIN chats c ON c.id = t.rowid
                         WHERE title_terms MATCH ?2 AND c.owner_id = ?1
                       ), newest (chat_id, message_id) AS (
                         SELECT chat_id, max(message_id) FROM hits GROUP BY chat_id
                       )
                       SELECT c.id, c.title, c.updated_at, coalesce(m.content, '') FROM newest n
                       JOIN chats c ON c.id = n.chat_id LEFT JOIN messages m ON m.id = n.message_id
                       WHERE c.owner_id = ?1 ORDER BY c.updated_at DESC, c.id DESC LIMIT ?3";
            let mut statement = tx.prepare_cached(sql)?;
            let rows = statement.query_map(params![owner, pattern, HITS_MAX], |row| {
                let content: String = row.get(3)?;
                Ok(SearchHit {
                    id: row.get(0)?,
                    title: row.get(1)?,
                    updated_at: row.get(2)?,
                    snippet: snippet(&content, &wanted),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

pub(crate) fn index_message(tx: &Transaction<'_>, id: MessageId, content: &str) -> Result<(), Error> {
    tx.prepare_cached("DELETE FROM message_terms WHERE rowid = ?1")?.execute([id])?;
    let sql = "INSERT INTO message_terms (rowid, terms) VALUES (?1, ?2)";
    tx.prepare_cached(sql)?.execute(params![id, terms(content)])?;
    Ok(())
}

pub(crate) fn index_title(tx: &Transaction<'_>, id: ChatId, title: &str) -> Result<(), Error> {
    tx.prepare_cached("DELETE FROM title_terms WHERE rowid = ?1")?.execute([id])?;
    let sql = "INSERT INTO title_terms (rowid, terms) VALUES (?1, ?2)";
    tx.prepare_cached(sql)?.execute(params![id, terms(title)])?;
    Ok(())
}

/// Indexes what was written before there was an index.
pub(crate) fn index_all(tx: &Transaction<'_>) -> Result<(), Error> {
    let mut chats = tx.prepare("SELECT id, title FROM chats")?;
    let mut rows = chats.query([])?;
    while let Some(row) = rows.next()? {
        index_title(tx, row.get(0)?, &row.get::<_, String>(1)?)?;
    }
    let mut messages = tx.prepare("SELECT id, content FROM messages WHERE status <> 'running'")?;
    let mut rows = messages.query([])?;
    while let Some(row) = rows.next()? {
        index_message(tx, row.get(0)?, &row.get::<_, String>(1)?)?;
    }
    Ok(())
}

/// A word, or a run of CJK characters.
struct Run {
    text: String,
    cjk: bool,
}

fn runs(text: &str) -> impl Iterator<Item = Run> {
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        while chars.next_if(|c| !c.is_alphanumeric()).is_some() {}
        let cjk = is_cjk(*chars.peek()?);
        let mut run = String::new();
        while let Some(c) = chars.next_if(|&c| c.is_alphanumeric() && is_cjk(c) == cjk) {
            run.extend(c.to_lowercase());
        }
        Some(Run { text: run, cjk })
    })
}

/// Terms of a text, separated by spaces.
fn terms(text: &str) -> String {
    let mut terms = String::with_capacity(text.len() * 2);
    for run in runs(text) {
        if run.cjk {
            terms += &pairs(&run.text);
            terms.extend(run.text.chars().last());
        } else {
            terms += &run.text;
        }
        terms.push(' ');
    }
    terms
}

/// `甲乙丙` -> `甲乙 乙丙 `.
fn pairs(run: &str) -> String {
    run.chars().zip(run.chars().skip(1)).flat_map(|(a, b)| [a, b, ' ']).collect()
}

/// The runs as an FTS5 query: each must be there, words and single characters as beginnings.
fn pattern(runs: &[Run]) -> String {
    let phrase = |run: &Run| {
        let several = run.cjk && run.text.chars().nth(1).is_some();
        if several { format!("\"{}\"", pairs(&run.text)) } else { format!("\"{}\"*", run.text) }
    };
    runs.iter().map(phrase).collect::<Vec<_>>().join(" AND ")
}

fn is_cjk(c: char) -> bool {
    matches!(c, '\u{3005}' | '\u{3040}'..='\u{30FF}' | '\u{3100}'..='\u{312F}' | '\u{3400}'..='\u{4DBF}'
        | '\u{4E00}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7AF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}')
}

/// The surroundings of the first place where `wanted` stands, on one line.
fn snippet(content: &str, wanted: &str) -> String {
    let chars: Vec<char> = content.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    let wanted: Vec<char> = wanted.chars().collect();
    let same =
        |window: &[char]| window.iter().zip(&wanted).all(|(a, b)| a.to_lowercase().eq(b.to_lowercase()));
    let found = chars.windows(wanted.len().max(1)).position(same).unwrap_or(0);
    let start = found.saturating_sub(SNIPPET_CHARS);
    let end = (found + wanted.len() + SNIPPET_CHARS).min(chars.len());
    let before = if start > 0 { "…" } else { "" };
    let after = if end < chars.len() { "…" } else { "" };
    format!("{before}{}{after}", chars[start..end].iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chinese_becomes_pairs_and_a_last_character() {
        assert_eq!(terms("服务器繁忙 Now, C3PO!").trim(), "服务 务器 器繁 繁忙 忙 now c3po");
        assert_eq!(pattern(&runs("器繁忙 x").collect::<Vec<_>>()), "\"器繁 繁忙 \" AND \"x\"*");
    }

    #[test]
    fn a_snippet_shows_the_place() {
        let text = format!("{}\n合同在这里{}", "a ".repeat(100), "b".repeat(100));
        let snippet = snippet(&text, "合同");
        assert!(snippet.starts_with('…') && snippet.ends_with('…') && snippet.contains(" 合同在这里b"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_makes_a_query_that_sqlite_accepts(text in "\\PC{0,40}") {
            let connection = rusqlite::Connection::open_in_memory().unwrap();
            connection.execute_batch("CREATE VIRTUAL TABLE t USING fts5 (terms)").unwrap();
            let runs: Vec<Run> = runs(&text).collect();
            if !runs.is_empty() {
                let sql = "SELECT count(*) FROM t WHERE t MATCH ?1";
                connection.query_row(sql, [pattern(&runs)], |row| row.get::<_, usize>(0)).unwrap();
            }
            snippet(&text, "x");
        }
    }
}
