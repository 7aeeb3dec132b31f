//! Writing metadata: enough of GGUF for a file without tensors.

use super::ValueType;

/// Builds a GGUF v3 file that holds metadata only.
#[derive(Debug, Default)]
pub struct MetadataWriter {
    entries: Vec<u8>,
    count: u64,
}

impl MetadataWriter {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    fn key(&mut self, key: &str, kind: ValueType) {
        string(&mut self.entries, key);
        self.entries.extend((kind as u32).to_le_bytes());
        self.count += 1;
    }

    fn array(&mut self, key: &str, kind: ValueType, len: usize) {
        self.key(key, ValueType::Array);
        self.entries.extend((kind as u32).to_le_bytes());
        self.entries.extend((len as u64).to_le_bytes());
    }

    /// Adds a string.
    pub fn string(&mut self, key: &str, value: &str) {
        self.key(key, ValueType::String);
        string(&mut self.entries, value);
    }

    /// Adds a u32.
    pub fn u32(&mut self, key: &str, value: u32) {
        self.key(key, ValueType::U32);
        self.entries.extend(value.to_le_bytes());
    }

    /// Adds an f32.
    pub fn f32(&mut self, key: &str, value: f32) {
        self.key(key, ValueType::F32);
        self.entries.extend(value.to_le_bytes());
    }

    /// Adds a boolean.
    pub fn bool(&mut self, key: &str, value: bool) {
        self.key(key, ValueType::Bool);
        self.entries.push(value.into());
    }

    /// Adds an array of strings.
    pub fn strings(&mut self, key: &str, values: &[String]) {
        self.array(key, ValueType::String, values.len());
        for value in values {
            string(&mut self.entries, value);
        }
    }

    /// Adds an array of i32.
    pub fn i32s(&mut self, key: &str, values: &[i32]) {
        self.array(key, ValueType::I32, values.len());
        self.entries.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }

    /// Adds an array of f32.
    pub fn f32s(&mut self, key: &str, values: &[f32]) {
        self.array(key, ValueType::F32, values.len());
        self.entries.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }

    /// The file's bytes.
    pub fn finish(self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend(0u64.to_le_bytes());
        out.extend(self.count.to_le_bytes());
        out.extend(self.entries);
        out
    }
}

fn string(out: &mut Vec<u8>, value: &str) {
    out.extend((value.len() as u64).to_le_bytes());
    out.extend(value.as_bytes());
}
