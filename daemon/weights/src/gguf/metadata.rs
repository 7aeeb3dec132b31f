//! Metadata: keys and typed values.

use std::collections::HashMap;

use super::cursor::Cursor;
use super::{Problem, ValueType};
use crate::ValueProblem;

/// Metadata entries in a file.
const MAX_METADATA: u64 = 1 << 16;
/// Values in an array.
const MAX_ARRAY: u64 = 1 << 24;

/// A metadata value; integers and floats of every width are widened.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// u8, u16, u32, u64
    Uint(u64),
    /// i8, i16, i32, i64
    Int(i64),
    /// f32, f64
    Float(f64),
    /// bool
    Bool(bool),
    /// string
    String(String),
    /// Array of any integer type; u64 values beyond i64 saturate.
    Ints(Vec<i64>),
    /// Array of f32 or f64
    Floats(Vec<f64>),
    /// Array of bool
    Bools(Vec<bool>),
    /// Array of string
    Strings(Vec<String>),
}

/// All metadata of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    entries: HashMap<String, Value>,
}

impl Metadata {
    pub(crate) fn parse(cursor: &mut Cursor<'_>, count: u64) -> Result<Self, Problem> {
        let mut entries = HashMap::new();
        for _ in 0..count {
            let key = cursor.string("a metadata key")?.to_owned();
            let value = value(cursor, &key)?;
            if entries.insert(key.clone(), value).is_some() {
                return Err(Problem::DuplicateKey { key });
            }
        }
        Ok(Self { entries })
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// All keys and values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// An unsigned integer, whatever its width.
    pub fn uint(&self, key: &str) -> Result<Option<u64>, ValueProblem> {
        self.typed(key, "an unsigned integer", |value| match value {
            Value::Uint(v) => Some(*v),
            Value::Int(v) => u64::try_from(*v).ok(),
            _ => None,
        })
    }

    /// A number.
    pub fn float(&self, key: &str) -> Result<Option<f64>, ValueProblem> {
        self.typed(key, "a number", |value| match value {
            Value::Float(v) => Some(*v),
            Value::Uint(v) => Some(*v as f64),
            Value::Int(v) => Some(*v as f64),
            _ => None,
        })
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, ValueProblem> {
        self.typed(key, "a boolean", |value| match value {
            Value::Bool(v) => Some(*v),
            _ => None,
        })
    }

    /// A string.
    pub fn string(&self, key: &str) -> Result<Option<&str>, ValueProblem> {
        self.typed(key, "a string", |value| match value {
            Value::String(v) => Some(v.as_str()),
            _ => None,
        })
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, ValueProblem> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Strings(v) => Some(v.as_slice()),
            _ => None,
        })
    }

    /// An array of integers.
    pub fn ints(&self, key: &str) -> Result<Option<&[i64]>, ValueProblem> {
        self.typed(key, "an array of integers", |value| match value {
            Value::Ints(v) => Some(v.as_slice()),
            _ => None,
        })
    }

    /// An array of numbers.
    pub fn floats(&self, key: &str) -> Result<Option<&[f64]>, ValueProblem> {
        self.typed(key, "an array of numbers", |value| match value {
            Value::Floats(v) => Some(v.as_slice()),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        want: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ValueProblem> {
        self.get(key).map(|value| read(value).ok_or(ValueProblem::Type { want })).transpose()
    }
}

/// The metadata count of a header.
pub(crate) fn count(cursor: &mut Cursor<'_>) -> Result<u64, Problem> {
    cursor.count(MAX_METADATA, "the number of metadata entries")
}

fn value_type(cursor: &mut Cursor<'_>, key: &str) -> Result<ValueType, Problem> {
    let id = cursor.u32("a metadata type")?;
    ValueType::from_id(id).ok_or_else(|| Problem::UnknownValueType { key: key.into(), id })
}

fn value(cursor: &mut Cursor<'_>, key: &str) -> Result<Value, Problem> {
    use ValueType::*;
    Ok(match value_type(cursor, key)? {
        U8 => Value::Uint(cursor.u8("a metadata value")?.into()),
        U16 => Value::Uint(cursor.u16("a metadata value")?.into()),
        U32 => Value::Uint(cursor.u32("a metadata value")?.into()),
        U64 => Value::Uint(cursor.u64("a metadata value")?),
        kind @ (I8 | I16 | I32 | I64) => Value::Int(int(cursor, kind)?),
        kind @ (F32 | F64) => Value::Float(float(cursor, kind)?),
        Bool => Value::Bool(boolean(cursor, key)?),
        String => Value::String(cursor.string("a metadata string")?.to_owned()),
        Array => array(cursor, key)?,
    })
}

fn array(cursor: &mut Cursor<'_>, key: &str) -> Result<Value, Problem> {
    use ValueType::*;
    let kind = value_type(cursor, key)?;
    let n = cursor.count(MAX_ARRAY, "an array's length")?;
    // Memory is taken only for what is there: `n` values of at least this size.
    cursor.ensure(n * kind.bytes_min(), "an array")?;
    let range = 0..n;
    Ok(match kind {
        U8 | I8 | U16 | I16 | U32 | I32 | U64 | I64 => {
            Value::Ints(range.map(|_| int(cursor, kind)).collect::<Result<_, _>>()?)
        }
        F32 | F64 => Value::Floats(range.map(|_| float(cursor, kind)).collect::<Result<_, _>>()?),
        Bool => Value::Bools(range.map(|_| boolean(cursor, key)).collect::<Result<_, _>>()?),
        String => Value::Strings(
            range
                .map(|_| cursor.string("a string in an array").map(str::to_owned))
                .collect::<Result<_, _>>()?,
        ),
        Array => return Err(Problem::NestedArray { key: key.into() }),
    })
}

/// An integer of type `kind`, which is one of the integer types.
fn int(cursor: &mut Cursor<'_>, kind: ValueType) -> Result<i64, Problem> {
    use ValueType::*;
    let what = "an integer";
    Ok(match kind {
        U8 => cursor.u8(what)?.into(),
        I8 => (cursor.u8(what)? as i8).into(),
        U16 => cursor.u16(what)?.into(),
        I16 => (cursor.u16(what)? as i16).into(),
        U32 => cursor.u32(what)?.into(),
        I32 => (cursor.u32(what)? as i32).into(),
        U64 => i64::try_from(cursor.u64(what)?).unwrap_or(i64::MAX),
        _ => cursor.u64(what)? as i64,
    })
}

fn float(cursor: &mut Cursor<'_>, kind: ValueType) -> Result<f64, Problem> {
    Ok(match kind {
        ValueType::F32 => f32::from_bits(cursor.u32("a float")?).into(),
        _ => f64::from_bits(cursor.u64("a float")?),
    })
}

fn boolean(cursor: &mut Cursor<'_>, key: &str) -> Result<bool, Problem> {
    let at = cursor.at();
    match cursor.u8("a boolean")? {
        0 => Ok(false),
        1 => Ok(true),
        got => Err(Problem::Bool { key: key.into(), at, got }),
    }
}
