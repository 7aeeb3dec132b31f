//! A box for tests: everything real but the model, which says what its script says.

use std::path::Path;
use std::time::Duration;

use api::{
    App, Config, Desk, GenerationDefaults, ModelInfo, ModelSlot, Recovery, ServedModel, serve, updates,
};
use engine::sim::Scripted;
use engine::{Options, Stats};
use model::Limits;
use serde_json::{Map, Value, json};
use store::Store;
use text::{Codec, Tokenizer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::{Client, Reply};

const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

pub(crate) const PASSWORD: &str = "correct horse";

/// How the scripted model behaves.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) says: String,
    pub(crate) template: &'static str,
    pub(crate) step_time: Duration,
    pub(crate) fail_after: Option<usize>,
    pub(crate) context: usize,
    pub(crate) options: Options,
    pub(crate) config: Config,
    pub(crate) installed: bool,
}

impl Script {
    pub(crate) fn says(text: &str) -> Self {
        Self {
            says: text.into(),
            template: TEMPLATE,
            step_time: Duration::ZERO,
            fail_after: None,
            context: 2048,
            options: Options::default(),
            config: Config::default(),
            installed: true,
        }
    }

    /// A model that talks without end, a token every few milliseconds.
    pub(crate) fn talks_on() -> Self {
        Self { step_time: Duration::from_millis(3), ..Self::says(&"blub ".repeat(1000)) }
    }

    fn model(&self) -> ServedModel {
        let codec = codec(self.template);
        let mut script: Vec<u32> = codec.tokenizer().encode(&self.says, text::Special::Recognise).unwrap();
        script.push(codec.tokenizer().id_of("<|im_end|>").unwrap());
        let limits = Limits {
            n_vocab: codec.tokenizer().n_vocab(),
            context: self.context,
            step_tokens: 512,
            kv_tokens: 16 * self.context,
        };
        let mut scripted = Scripted::new(limits, script).step_time(self.step_time);
        if let Some(n) = self.fail_after {
            scripted = scripted.fail_after(n);
        }
        ServedModel {
            id: "scripted".into(),
            name: "Scripted".into(),
            created: 1_700_000_000,
            engine: engine::start(Box::new(scripted), self.options),
            codec,
            info: ModelInfo { context: self.context, bytes: 1, format: "F32".into(), source: "test".into() },
            defaults: GenerationDefaults::default(),
        }
    }
}

/// A vocabulary of bytes and four special tokens.
fn codec(template: &str) -> Codec {
    let printable = (b'!'..=b'~').chain(0xa1..=0xac).chain(0xae..=0xff);
    let printable: Vec<u8> = printable.collect();
    let mut vocab = Map::new();
    let mut next_spare = 0x100;
    for byte in 0..=255u8 {
        let spelled = if printable.contains(&byte) {
            char::from(byte)
        } else {
            next_spare += 1;
            char::from_u32(next_spare - 1).unwrap()
        };
        vocab.insert(spelled.to_string(), json!(byte));
    }
    let special = |(id, content): (usize, &&str)| {
        json!({ "id": 256 + id, "content": content, "special": true, "lstrip": false, "rstrip": false,
            "single_word": false, "normalized": false })
    };
    let added: Vec<Value> =
        ["<|im_start|>", "<|im_end|>", "<think>", "</think>"].iter().enumerate().map(special).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
        "added_tokens": added,
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    let config = json!({ "eos_token": "<|im_end|>" });
    let tokenizer =
        Tokenizer::from_json(tokenizer.to_string().as_bytes(), Some(config.to_string().as_bytes())).unwrap();
    Codec::new(tokenizer, Some(template)).unwrap()
}

/// A running service.
pub(crate) struct House {
    pub(crate) client: Client,
    pub(crate) slot: ModelSlot,
    pub(crate) claim_code: Option<String>,
    /// Where what the page wishes of updates arrives.
    pub(crate) desk: Desk,
    /// The door for whoever has lost the password.
    pub(crate) recovery: Recovery,
    dir: Option<tempfile::TempDir>,
    shutdown: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl House {
    /// An unclaimed box.
    pub(crate) async fn unclaimed(script: Script) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::on(dir, script).await
    }

    /// A box on the state that another left.
    pub(crate) async fn on(dir: tempfile::TempDir, script: Script) -> Self {
        let store = Store::open(&Path::new(dir.path()).join("wels.db")).unwrap();
        let claim_code = store.new_claim_code().await.unwrap();
        let slot = ModelSlot::default();
        slot.put(script.installed.then(|| script.model()));
        let (door, desk) = updates("{\"stick\":null}".into());
        let recovery = Recovery::default();
        let app = App::new(store, slot.clone(), Some(door), recovery.clone(), script.config).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, ended) = oneshot::channel();
        let server = tokio::spawn(serve(listener, app, async {
            // A house that is dropped ends its server too.
            let _ = ended.await;
        }));
        let client = Client::new(address);
        Self { client, slot, claim_code, desk, recovery, dir: Some(dir), shutdown, server }
    }

    /// A claimed box; the browser is ada's, the admin's.
    pub(crate) async fn claimed(script: Script) -> (Self, Client) {
        let house = Self::unclaimed(script).await;
        let code = house.claim_code.clone().unwrap();
        let claim = json!({ "code": code, "name": "ada", "password": PASSWORD });
        let reply = house.browser().post("/api/claim", &claim).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let ada = house.browser().with("Cookie", &cookie(&reply));
        (house, ada)
    }

    /// A claimed box; the client is a program with a key.
    pub(crate) async fn keyed(script: Script) -> (Self, Client) {
        let (house, ada) = Self::claimed(script).await;
        let program = house.program(&ada).await;
        (house, program)
    }

    /// A program with a key of whoever `browser` belongs to.
    pub(crate) async fn program(&self, browser: &Client) -> Client {
        let key = browser.post("/api/keys", &json!({ "name": "test" })).await.json();
        self.client.with("Authorization", &format!("Bearer {}", key["key"].as_str().unwrap()))
    }

    /// A browser on the box's page, signed out.
    pub(crate) fn browser(&self) -> Client {
        self.client.with("Origin", &format!("http://{}", self.client.address))
    }

    /// Signs in.
    pub(crate) async fn sign_in(&self, name: &str, password: &str) -> Client {
        let reply = self.browser().post("/api/login", &json!({ "name": name, "password": password })).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        self.browser().with("Cookie", &cookie(&reply))
    }

    /// A second person, made by the admin.
    pub(crate) async fn add_person(&self, admin: &Client, name: &str) -> Client {
        let user = json!({ "name": name, "password": PASSWORD, "role": "user" });
        assert_eq!(admin.post("/api/users", &user).await.status, 200);
        self.sign_in(name, PASSWORD).await
    }

    pub(crate) fn stats(&self) -> Stats {
        self.slot.get().unwrap().engine.stats()
    }

    /// Waits until the engine's state is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&Stats) -> bool) {
        for _ in 0..2000 {
            if wanted(&self.stats()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the engine never got there: {:?}", self.stats());
    }

    /// Ends the service in order and hands over its state.
    pub(crate) async fn end(mut self) -> tempfile::TempDir {
        self.shutdown.send(()).unwrap();
        self.server.await.unwrap();
        self.dir.take().unwrap()
    }
}

/// `sid=…` of a reply that signs in.
pub(crate) fn cookie(reply: &Reply) -> String {
    reply.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}
