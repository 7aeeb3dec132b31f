-- Chats are trees of messages: an edited question or a regenerated answer is a sibling.

CREATE TABLE chats (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    owner_id   INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    title      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX chats_by_owner ON chats (owner_id, updated_at DESC);

CREATE TABLE messages (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    chat_id      INTEGER NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    parent_id    INTEGER          REFERENCES messages (id) ON DELETE CASCADE,
    role         TEXT    NOT NULL CHECK (role IN ('user', 'assistant')),
    content      TEXT    NOT NULL,
    reasoning    TEXT,
    reasoning_ms INTEGER,
    status       TEXT    NOT NULL CHECK (status IN ('done', 'running', 'stopped', 'error', 'length')),
    error        TEXT,
    receipt      TEXT             CHECK (receipt IS NULL OR json_valid(receipt)),
    created_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_by_chat ON messages (chat_id, id);
CREATE INDEX messages_by_parent ON messages (parent_id);
CREATE INDEX messages_running ON messages (id) WHERE status = 'running';
