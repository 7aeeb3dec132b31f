//! Chats, their branches, and finding them again, on a real file.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use store::{Answer, ChatId, MessageId, NewUser, Privilege, Role, Status, Store, UserId};

struct House {
    _dir: tempfile::TempDir,
    store: Store,
    ada: UserId,
    bob: UserId,
}

async fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("wels.db")).unwrap();
    let person = |name: &str| NewUser {
        name: name.into(),
        password_hash: "h".into(),
        role: Privilege::Admin,
        lang: None,
    };
    let ada = store.create_user(None, person("ada")).await.unwrap().id;
    let bob = store.create_user(None, person("bob")).await.unwrap().id;
    House { _dir: dir, store, ada, bob }
}

fn done(content: &str) -> Answer {
    let content = content.into();
    Answer { content, reasoning: None, reasoning_ms: None, status: Status::Done, error: None, receipt: None }
}

impl House {
    /// A question of ada's and its answer; returns both ids.
    async fn say(
        &self,
        chat: ChatId,
        after: Option<MessageId>,
        question: &str,
        answer: &str,
    ) -> (MessageId, MessageId) {
        let title: String = question.chars().take(20).collect();
        let asked = self.store.ask(self.ada, chat, after, question.into(), title).await.unwrap().unwrap();
        self.store.save_answer(self.ada, asked.answer.id, done(answer)).await.unwrap().unwrap();
        (asked.question.id, asked.answer.id)
    }

    async fn found(&self, owner: UserId, query: &str) -> Vec<ChatId> {
        self.store.search(owner, query).await.unwrap().into_iter().map(|hit| hit.id).collect()
    }
}

#[tokio::test]
async fn branches_are_kept_and_read_from_the_beginning() {
    let house = house().await;
    let chat = house.store.create_chat(house.ada).await.unwrap().id;
    let (q1, a1) = house.say(chat, None, "How deep?", "10 m").await;
    let (_, a2) = house.say(chat, Some(a1), "And wide?", "20 m").await;
    let (q3, a3) = house.say(chat, Some(a1), "And long?", "30 m").await;
    let again = house.store.regenerate(house.ada, chat, a2).await.unwrap().unwrap();
    assert_eq!(again.status, Status::Running);

    let branch = house.store.branch(house.ada, a3).await.unwrap();
    assert_eq!(branch.iter().map(|m| m.id).collect::<Vec<_>>(), [q1, a1, q3, a3]);
    assert_eq!(house.store.messages(house.ada, chat).await.unwrap().len(), 7);
    assert_eq!(house.store.chat(house.ada, chat).await.unwrap().unwrap().title, "How deep?");
}

#[tokio::test]
async fn a_question_follows_an_answer_of_the_same_chat() {
    let house = house().await;
    let chat = house.store.create_chat(house.ada).await.unwrap().id;
    let other = house.store.create_chat(house.ada).await.unwrap().id;
    let (question, answer) = house.say(chat, None, "a", "b").await;
    for (chat, parent) in [(chat, question), (other, answer), (chat, MessageId(999))] {
        let asked = house.store.ask(house.ada, chat, Some(parent), "x".into(), String::new()).await.unwrap();
        assert!(asked.is_none());
    }
    assert!(house.store.regenerate(house.ada, chat, question).await.unwrap().is_none());
}

#[tokio::test]
async fn another_owner_finds_nothing_and_changes_nothing() {
    let House { store, ada, bob, .. } = &house().await;
    let (store, ada, bob) = (store, *ada, *bob);
    let chat = store.create_chat(ada).await.unwrap().id;
    let asked = store.ask(ada, chat, None, "secret plan".into(), "secret".into()).await.unwrap().unwrap();
    let answer = asked.answer.id;

    assert!(store.chats(bob, None, 50).await.unwrap().is_empty());
    assert!(store.chat(bob, chat).await.unwrap().is_none());
    assert!(store.messages(bob, chat).await.unwrap().is_empty());
    assert!(store.branch(bob, answer).await.unwrap().is_empty());
    assert!(store.search(bob, "secret").await.unwrap().is_empty());
    assert!(store.rename_chat(bob, chat, "mine").await.unwrap().is_none());
    assert!(!store.delete_chat(bob, chat).await.unwrap());
    assert!(store.ask(bob, chat, Some(answer), "?".into(), String::new()).await.unwrap().is_none());
    assert!(store.regenerate(bob, chat, answer).await.unwrap().is_none());
    assert!(store.save_answer(bob, answer, done("forged")).await.unwrap().is_none());
    assert_eq!(store.messages(ada, chat).await.unwrap(), [asked.question, asked.answer]);
}

#[tokio::test]
async fn search_finds_words_chinese_and_titles_of_one_owner() {
    let house = house().await;
    let busy = house.store.create_chat(house.ada).await.unwrap().id;
    house.say(busy, None, "为什么服务器繁忙？", "因为很多人在用。").await;
    let contract = house.store.create_chat(house.ada).await.unwrap().id;
    house.say(contract, None, "Read the Contract of 2024", "合同第三条 says naïve things").await;
    house.store.rename_chat(house.ada, contract, "Verträge 契約").await.unwrap();

    for query in ["繁忙", "服务器", "忙", "器繁忙", "很多人在用", "为什么 用"] {
        let expected: &[ChatId] = if query == "为什么 用" { &[] } else { &[busy] };
        assert_eq!(house.found(house.ada, query).await, expected, "{query}");
    }
    for query in
        ["contract", "CONTR", "合同", "naive", "verträge", "契約", "third OR contract NOT", "合同 things"]
    {
        let expected: &[ChatId] = if query.contains("NOT") { &[] } else { &[contract] };
        assert_eq!(house.found(house.ada, query).await, expected, "{query}");
    }
    assert!(house.found(house.bob, "繁忙").await.is_empty());
    assert!(house.found(house.ada, "\"' ,。").await.is_empty());
    house.store.delete_chat(house.ada, busy).await.unwrap();
    assert!(house.found(house.ada, "繁忙").await.is_empty());
}

#[tokio::test]
async fn chats_are_listed_newest_first_page_by_page() {
    let house = house().await;
    let mut chats = Vec::new();
    for _ in 0..5 {
        chats.push(house.store.create_chat(house.ada).await.unwrap().id);
        tokio::task::yield_now().await;
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let first = house.store.chats(house.ada, None, 3).await.unwrap();
    let rest = house.store.chats(house.ada, Some(first[2].updated_at), 3).await.unwrap();
    let listed: Vec<ChatId> = first.iter().chain(&rest).map(|chat| chat.id).collect();
    chats.reverse();
    assert_eq!(listed, chats);
}

#[tokio::test]
async fn an_interrupted_answer_is_marked_at_the_next_start() {
    let House { _dir: dir, store, ada, .. } = house().await;
    let chat = store.create_chat(ada).await.unwrap().id;
    let asked = store.ask(ada, chat, None, "long?".into(), "t".into()).await.unwrap().unwrap();
    let partial = Answer { status: Status::Running, ..done("It is") };
    store.save_answer(ada, asked.answer.id, partial).await.unwrap().unwrap();
    drop(store);
    let store = Store::open(&dir.path().join("wels.db")).unwrap();
    let answer = store.messages(ada, chat).await.unwrap().pop().unwrap();
    assert_eq!((answer.status, &*answer.content, answer.role), (Status::Stopped, "It is", Role::Assistant));
}
