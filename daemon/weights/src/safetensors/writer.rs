//! Writing small safetensors files: results, test models.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use tensor::DType;

use crate::Error;

/// Collects tensors in memory, then writes them.
///
/// ```
/// let file = weights::safetensors::Writer::new().f32("logits", &[3], &[0.5, 1.0, -2.0]).i32("argmax", &[1], &[1]);
/// let bytes = file.finish();
/// let view = weights::safetensors::View::parse(&bytes).unwrap();
/// assert_eq!(view.tensor("argmax").unwrap().i32().unwrap(), [1]);
/// ```
#[derive(Debug, Default)]
pub struct Writer {
    header: Map<String, Value>,
    data: Vec<u8>,
}

impl Writer {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor by its bytes.
    ///
    /// # Panics
    /// `data` has another size than `shape` takes, `dtype` is a quantised type (the format has none), or `name` is
    /// taken: a programmer's error.
    pub fn tensor(mut self, name: &str, dtype: DType, shape: &[usize], data: &[u8]) -> Self {
        assert!(!dtype.is_quantised(), "safetensors has no {dtype}");
        let n: usize = shape.iter().product();
        assert_eq!(data.len(), n * dtype.block_bytes(), "tensor {name}: bytes for shape {shape:?}");
        let begin = self.data.len();
        self.data.extend_from_slice(data);
        let info = json!({"dtype": dtype.name(), "shape": shape, "data_offsets": [begin, self.data.len()]});
        assert!(self.header.insert(name.into(), info).is_none(), "tensor {name} is there already");
        self
    }

    /// Adds a tensor of floats.
    pub fn f32(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        self.tensor(name, DType::F32, shape, bytemuck::cast_slice(values))
    }

    /// Adds a tensor of integers.
    pub fn i32(self, name: &str, shape: &[usize], values: &[i32]) -> Self {
        self.tensor(name, DType::I32, shape, bytemuck::cast_slice(values))
    }

    /// The file's bytes.
    pub fn finish(self) -> Vec<u8> {
        let mut json = Value::Object(self.header).to_string().into_bytes();
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut out = (json.len() as u64).to_le_bytes().to_vec();
        out.extend(json);
        out.extend(self.data);
        out
    }

    /// Writes the file at `path`.
    pub fn write(self, path: &Path) -> Result<(), Error> {
        fs::write(path, self.finish()).map_err(Error::io(path, "write"))
    }
}

#[cfg(target_endian = "big")]
compile_error!("the formats read and written here are little-endian");
