//! The metadata of a GGUF file, as far as these tests need it: the program has a careful reader in `weights`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use text::GgufVocab;

enum Value {
    Int(i64),
    Float(f32),
    Text(String),
    List(Vec<Value>),
}

struct Reader(BufReader<File>);

impl Reader {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn length(&mut self) -> usize {
        usize::try_from(u64::from_le_bytes(self.bytes())).unwrap()
    }

    fn text(&mut self) -> String {
        let mut bytes = vec![0; self.length()];
        self.0.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn kind(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    fn value(&mut self, kind: u32) -> Value {
        match kind {
            0 | 1 | 7 => Value::Int(i64::from(self.bytes::<1>()[0])),
            2 | 3 => Value::Int(i64::from(i16::from_le_bytes(self.bytes()))),
            4 => Value::Int(i64::from(u32::from_le_bytes(self.bytes()))),
            5 => Value::Int(i64::from(i32::from_le_bytes(self.bytes()))),
            6 => Value::Float(f32::from_le_bytes(self.bytes())),
            8 => Value::Text(self.text()),
            9 => {
                let kind = self.kind();
                let n = self.length();
                Value::List((0..n).map(|_| self.value(kind)).collect())
            }
            10 | 11 => Value::Int(i64::from_le_bytes(self.bytes())),
            12 => Value::Float(f64::from_le_bytes(self.bytes()) as f32),
            _ => panic!("value type {kind}"),
        }
    }
}

pub(super) fn read_vocab(path: &Path) -> GgufVocab {
    let mut reader = Reader(BufReader::new(File::open(path).unwrap()));
    let (magic, _version): ([u8; 4], [u8; 4]) = (reader.bytes(), reader.bytes());
    assert_eq!(&magic, b"GGUF");
    let (_n_tensors, n) = (reader.length(), reader.length());
    let mut fields: HashMap<String, Value> = HashMap::new();
    for _ in 0..n {
        let (key, kind) = (reader.text(), reader.kind());
        fields.insert(key, reader.value(kind));
    }
    let mut take = |key: &str| fields.remove(&format!("tokenizer.{key}"));
    GgufVocab {
        model: take("ggml.model").and_then(text).unwrap(),
        pre: take("ggml.pre").and_then(text),
        tokens: list(take("ggml.tokens"), text),
        token_types: list(take("ggml.token_type"), |v| int(v).map(|n| n as i32)),
        merges: list(take("ggml.merges"), text),
        scores: list(take("ggml.scores"), |v| if let Value::Float(x) = v { Some(x) } else { None }),
        bos: take("ggml.bos_token_id").and_then(int).map(|n| n as u32),
        eos: take("ggml.eos_token_id").and_then(int).map(|n| n as u32),
        eot: take("ggml.eot_token_id").and_then(int).map(|n| n as u32),
        eom: take("ggml.eom_token_id").and_then(int).map(|n| n as u32),
        unk: take("ggml.unknown_token_id").and_then(int).map(|n| n as u32),
        pad: take("ggml.padding_token_id").and_then(int).map(|n| n as u32),
        add_bos: take("ggml.add_bos_token").and_then(int).map(|n| n != 0),
        add_eos: take("ggml.add_eos_token").and_then(int).map(|n| n != 0),
        add_space_prefix: take("ggml.add_space_prefix").and_then(int).map(|n| n != 0),
        chat_template: take("chat_template").and_then(text),
    }
}

fn text(value: Value) -> Option<String> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn int(value: Value) -> Option<i64> {
    if let Value::Int(n) = value { Some(n) } else { None }
}

fn list<T>(value: Option<Value>, item: fn(Value) -> Option<T>) -> Vec<T> {
    if let Some(Value::List(values)) = value {
        values.into_iter().filter_map(item).collect()
    } else {
        Vec::new()
    }
}
