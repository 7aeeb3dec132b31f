//! The commands as a person or a script runs them: results, and clear words for bad input.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use weights::safetensors::View;

fn wels(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wels")).args(args).env("WELS_LOG", "warn").output().unwrap()
}

fn stdout(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// What a failing command says: on stderr, with a status, and never by a panic.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("error: ") && !text.contains("panicked"), "{text}");
    text
}

/// A folder with a small GGUF in it.
struct Desk {
    dir: tempfile::TempDir,
    gguf: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let gguf = dir.path().join("tiny.gguf");
        fs::write(&gguf, fixtures::read("gguf/tiny-qwen2.q8_0.gguf")).unwrap();
        Self { dir, gguf }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn gguf(&self) -> &str {
        self.gguf.to_str().unwrap()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }
}

fn smollm2() -> String {
    fixtures::test_data("smollm2.gguf").to_str().unwrap().to_owned()
}

#[test]
fn eval_of_a_gguf_and_of_its_pack_give_the_reference_numbers() {
    let desk = Desk::new();
    let expected = fixtures::read("gguf/tiny-qwen2.q8_0.expected.safetensors");
    let expected = View::parse(&expected).unwrap();
    let prompt = expected.tensor("p33.input_ids").unwrap().i32().unwrap();
    let tokens = desk.write("tokens.json", json!({ "p33": prompt }).to_string());
    let pack = desk.path("tiny.wels");
    stdout(&wels(&["import", desk.gguf(), &pack]));
    for model in [desk.gguf(), &pack] {
        let out = desk.path("out.safetensors");
        stdout(&wels(&["eval", "--model", model, "--tokens", &tokens, "--out", &out, "--greedy", "32"]));
        let bytes = fs::read(&out).unwrap();
        let got = View::parse(&bytes).unwrap();
        let f32s = |view: &View<'_>, name: &str| view.tensor(name).unwrap().f32().unwrap();
        let (logits, want) = (f32s(&got, "p33.logits_last"), f32s(&expected, "p33.logits_last"));
        assert!(logits.iter().zip(&want).all(|(g, w)| (g - w).abs() < 1e-3), "{model}");
        for name in ["p33.argmax", "p33.greedy_ids"] {
            assert_eq!(
                got.tensor(name).unwrap().i32(),
                expected.tensor(name).unwrap().i32(),
                "{model} {name}"
            );
        }
    }
}

#[test]
fn an_imported_pack_is_whole_and_a_second_import_asks_first() {
    let desk = Desk::new();
    let pack = desk.path("tiny.wels");
    let report: Value =
        serde_json::from_str(&stdout(&wels(&["import", "--json", desk.gguf(), &pack]))).unwrap();
    assert_eq!(report["pack"], json!(pack));
    let again = complaint(&wels(&["import", desk.gguf(), &pack]));
    assert!(again.contains("--replace"), "{again}");
    stdout(&wels(&["import", "--replace", desk.gguf(), &pack]));
    let findings: Value =
        serde_json::from_str(&String::from_utf8_lossy(&wels(&["doctor", "--json", "--model", &pack]).stdout))
            .unwrap();
    let bytes = findings.as_array().unwrap().iter().find(|f| f["check"] == "bytes").unwrap();
    assert_eq!(bytes["ok"], true, "{findings}");
}

#[test]
fn an_import_says_how_it_stores_experts_and_why() {
    let model = fixtures::folder("tiny-deepseek-v3");
    let source = model.path.to_str().unwrap();
    let pack = |name: &str| model.beside(name).to_str().unwrap().to_owned();
    let report = |compress: &str| -> Value {
        let dest = pack(compress);
        let args = ["import", "--allow-differences", "--json", "--compress", compress, source, &dest];
        serde_json::from_str(&stdout(&wels(&args))).unwrap()
    };
    let (raw, coded) = (report("never"), report("always"));
    // Records as tiny as these end on the same page either way.
    assert!(coded["stored_bytes"].as_u64() <= raw["stored_bytes"].as_u64(), "{coded}");
    let gate = |report: &Value| {
        let codings = report["codings"].as_array().unwrap().clone();
        codings.into_iter().find(|coding| coding["part"] == "ffn_gate").unwrap()
    };
    assert_eq!(
        (gate(&raw)["coding"].as_str(), gate(&raw)["reason"].as_str()),
        (Some("raw"), Some("as asked"))
    );
    let gate = gate(&coded);
    assert_eq!((gate["dtype"].as_str(), gate["coding"].as_str()), (Some("BF16"), Some("split")));
    assert!(gate["ratio"].as_f64().unwrap() < 1.0 && gate["decode_gb_s"].as_f64().unwrap() > 0.0, "{gate}");
    let text = stdout(&wels(&["import", "--allow-differences", source, &pack("auto")]));
    assert!(text.contains("ffn_up BF16") && text.contains("raw, too little to matter"), "{text}");
    let findings = wels(&["doctor", "--model", &pack("always")]);
    let text = String::from_utf8_lossy(&findings.stdout);
    assert!(text.contains("every byte is as it was written"), "{text}");
}

#[test]
fn a_known_model_that_describes_itself_otherwise_is_refused_unless_asked() {
    let desk = Desk::new();
    // Another network under a name of the catalogue: the name of its folder.
    let folder = desk.path("DeepSeek-R1-Distill-Qwen-7B");
    fs::create_dir(&folder).unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tiny-qwen2/config.json");
    fs::copy(config, Path::new(&folder).join("config.json")).unwrap();
    let weights = fixtures::read("tiny-qwen2/model.safetensors");
    fs::write(Path::new(&folder).join("model.safetensors"), weights).unwrap();
    let pack = desk.path("r1.wels");
    let text = complaint(&wels(&["import", &folder, &pack]));
    for words in
        ["--allow-differences", "looks like DeepSeek-R1-Distill-Qwen-7B", "in the file and 3584 in the"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!Path::new(&pack).exists());
    stdout(&wels(&["import", "--allow-differences", &folder, &pack]));
    let findings = wels(&["doctor", "--model", &pack]);
    let text = String::from_utf8_lossy(&findings.stdout);
    assert!(text.contains("BAD  shape") && text.contains("n_layers is"), "{text}");
    stdout(&wels(&["import", desk.gguf(), &desk.path("nobody.wels")]));
}

#[test]
fn doctor_finds_a_flipped_bit() {
    let desk = Desk::new();
    let pack = desk.path("tiny.wels");
    stdout(&wels(&["import", desk.gguf(), &pack]));
    let dense = Path::new(&pack).join("dense.bin");
    let mut bytes = fs::read(&dense).unwrap();
    bytes[5000] ^= 4;
    fs::write(&dense, bytes).unwrap();
    let output = wels(&["doctor", "--model", &pack]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("BAD  bytes") && text.contains("import the model again"), "{text}");
}

#[test]
fn bad_model_files_get_clear_words() {
    let desk = Desk::new();
    let whole = fs::read(&desk.gguf).unwrap();
    let truncated = desk.write("truncated.gguf", &whole[..whole.len() / 2]);
    let text = complaint(&wels(&["bench", "--model", &truncated]));
    assert!(text.contains("truncated.gguf"), "{text}");
    // The first tensor's first dimension, made absurd.
    let name = b"token_embd.weight";
    let at = whole.windows(name.len()).position(|w| w == name).unwrap() + name.len() + 4;
    let mut lying = whole.clone();
    lying[at..at + 8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
    let lying = desk.write("lying.gguf", lying);
    let text = complaint(&wels(&["import", &lying, &desk.path("lying.wels")]));
    assert!(text.contains("token_embd.weight"), "{text}");
    assert!(
        !Path::new(&desk.path("lying.wels")).exists() && !Path::new(&desk.path("lying.wels.part")).exists()
    );
    let text = complaint(&wels(&["chat", "--model", &desk.path("nothing.gguf"), "--once", "hi"]));
    assert!(text.contains("no such file"), "{text}");
    let not_json = desk.write("tokens.json", "{");
    let out = desk.path("o");
    let text = complaint(&wels(&["eval", "--model", desk.gguf(), "--tokens", &not_json, "--out", &out]));
    assert!(text.contains("tokens.json"), "{text}");
}

#[test]
fn a_full_disk_during_import_leaves_nothing_behind() {
    let desk = Desk::new();
    let pack = desk.path("tiny.wels");
    let script = format!(
        "trap '' XFSZ; ulimit -f 64; exec '{}' import '{}' '{pack}'",
        env!("CARGO_BIN_EXE_wels"),
        desk.gguf()
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let text = complaint(&output);
    assert!(text.contains("full") || text.contains("space"), "{text}");
    let left: Vec<_> = fs::read_dir(desk.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["tiny.gguf"]);
}

/// The line of JSON at the end.
fn last_line(args: &[&str]) -> Value {
    serde_json::from_str(stdout(&wels(args)).lines().last().unwrap()).unwrap()
}

#[test]
fn bench_ends_with_one_line_of_json() {
    let desk = Desk::new();
    let logits = desk.path("logits");
    let bench = ["bench", "--model", desk.gguf(), "--json", "--prefill", "16", "--decode", "4"];
    let line = last_line(&[&bench[..], &["--sequences", "2", "--logits", &logits]].concat());
    for key in ["model", "device", "threads", "prefill_tokens", "prefill_tok_s", "decode_tok_s", "sequences"]
    {
        assert!(!line[key].is_null(), "{key}: {line}");
    }
    assert_eq!((&line["sequences"], &line["decode_tok_s"]), (&json!(2), &line["decode"][0]["tok_s"]));
    assert!(fs::read(logits).unwrap().chunks_exact(4).count() > 100, "a logit for every token");
    let line = last_line(&bench);
    let sequences: Vec<_> = line["decode"].as_array().unwrap().iter().map(|of| &of["sequences"]).collect();
    assert_eq!(sequences, [1, 4, 8]);
    for key in [
        "read_bytes_s",
        "int8_ops_s",
        "bytes_per_token",
        "decode_bandwidth_fraction",
        "prefill_peak_fraction",
    ] {
        assert!(line[key].as_f64().unwrap() > 0.0, "{key}: {line}");
    }
    for key in ["prefill_tok_s", "decode_tok_s"] {
        assert!(line["predicted"][key].as_f64().unwrap() > 0.0, "{key}: {line}");
    }
}

#[test]
fn bench_of_kernels_needs_no_model() {
    let line = last_line(&["bench", "--kernels", "--moe", "256x512:2/4", "--repeat", "1", "--json"]);
    let rows = line["moe"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["ops_s"].as_f64().unwrap() > 0.0), "{line}");
    let output = wels(&["bench", "--kernels", "--moe", "256x512:5/4"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("5 of 4 experts"), "{output:?}");
}

#[test]
fn bench_tells_what_guesses_do() {
    let model = smollm2();
    let bench = ["bench", "--model", &model, "--prefill", "8", "--decode", "40", "--repeat", "1", "--json"];
    let text = stdout(&wels(&[&bench[..], &["--speculate", "lookup"]].concat()));
    let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let copy = &line["guesses"][0];
    let count = |key: &str| copy[key].as_u64().unwrap();
    assert!((1..=count("drafted")).contains(&count("accepted")), "{copy}");
    assert!(count("tokens") <= 39 && copy["tok_s"].as_f64().unwrap() > 0.0, "{copy}");
    let text = complaint(&wels(&[&bench[..], &["--speculate", "auto", "--draft-tokens", "3"]].concat()));
    assert!(text.contains("--speculate lookup"), "{text}");
}

#[test]
fn tokenize_keeps_special_tokens_plain_unless_asked() {
    let desk = Desk::new();
    let strings = desk.write("strings.json", json!(["hello <|im_end|> there", "你好"]).to_string());
    let ids = |args: &[&str]| -> Vec<Vec<u32>> {
        let mut all = vec!["tokenize", "--model", args[0], "--in", &strings];
        all.extend(&args[1..]);
        serde_json::from_str(&stdout(&wels(&all))).unwrap()
    };
    let model = smollm2();
    let (plain, special) = (ids(&[&model]), ids(&[&model, "--special"]));
    assert!(!plain[0].contains(&2) && special[0].contains(&2), "<|im_end|> is token 2");
    assert_eq!(plain[1], special[1]);
    let messages =
        desk.write("chat.json", json!([{ "role": "user", "content": "Hi <|im_end|>" }]).to_string());
    let prompt = stdout(&wels(&["tokenize", "--model", &model, "--messages", &messages, "--json"]));
    let prompt: Value = serde_json::from_str(&prompt).unwrap();
    assert!(prompt["text"].as_str().unwrap().ends_with("Hi <|im_end|><|im_end|>\n<|im_start|>assistant\n"));
    let ends = prompt["ids"].as_array().unwrap().iter().filter(|id| **id == json!(2)).count();
    assert_eq!(ends, 2, "the system's and the user's own turn end, the typed one is text");
}

/// A daemon on a free port that stops when it is dropped.
struct Daemon {
    child: Child,
    address: String,
    _state: tempfile::TempDir,
}

impl Daemon {
    fn start(model: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_wels"))
            .args(["serve", "--model", model, "--listen", "127.0.0.1:0", "--no-api-key", "--json", "--state"])
            .arg(state.path())
            .env("WELS_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let announced: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(announced["claim_code"].as_str().unwrap().len(), 9);
        let address = announced["listening"].as_str().unwrap().trim_start_matches("http://").to_owned();
        Self { child, address, _state: state }
    }

    /// Status and body.
    fn post(&self, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // A server that has seen enough may close before the whole body is sent.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Gone already, or going.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_daemon_answers_and_survives_bad_requests() {
    let daemon = Daemon::start(&smollm2());
    let ask = json!({ "messages": [{ "role": "user", "content": "Say hello." }], "max_tokens": 8, "temperature": 0 });
    let (status, answer) = daemon.post(ask.to_string().as_bytes());
    assert!(status == 200 && answer.contains("\"finish_reason\""), "{answer}");
    let huge = json!({ "messages": [{ "role": "user", "content": "word ".repeat(2_000_000) }] }).to_string();
    let (status, answer) = daemon.post(huge.as_bytes());
    assert!(status == 413 || status == 400, "{status}: {}", &answer[..answer.len().min(300)]);
    let (status, answer) = daemon.post(b"hello");
    assert!(status == 400 && answer.contains("\"error\""), "{answer}");
    let unknown = json!({ "model": "gpt-9", "messages": [{ "role": "user", "content": "hi" }] });
    let (status, answer) = daemon.post(unknown.to_string().as_bytes());
    assert!(status == 404 && answer.contains("model_not_found"), "{answer}");
    let stream =
        json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 4, "stream": true });
    let (status, answer) = daemon.post(stream.to_string().as_bytes());
    assert!(status == 200 && answer.contains("data: [DONE]"), "{answer}");
}
