-- Full-text search. The terms are made by the application (words, and bigrams of Chinese, Japanese and Korean, which
-- SQLite's own tokenizers can't find inside a sentence); the texts themselves are not stored twice.

CREATE VIRTUAL TABLE title_terms USING fts5 (
    terms, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);
CREATE VIRTUAL TABLE message_terms USING fts5 (
    terms, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);

-- Rows of the index go with what they index, cascades included.
CREATE TRIGGER chats_leave_the_index AFTER DELETE ON chats
BEGIN DELETE FROM title_terms WHERE rowid = old.id; END;
CREATE TRIGGER messages_leave_the_index AFTER DELETE ON messages
BEGIN DELETE FROM message_terms WHERE rowid = old.id; END;
