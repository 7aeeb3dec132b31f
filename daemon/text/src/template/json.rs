//! The `tojson` filter, writing what Python's `json.dumps` writes: models were trained on its spaces.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// Deepest value that is written.
const MAX_DEPTH: usize = 100;

/// How `json.dumps` is asked to write.
struct Style {
    ensure_ascii: bool,
    indent: Option<usize>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`
pub(super) fn tojson(state: &State<'_, '_>, value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let (item_separator, key_separator) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators must be a pair")),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let style = Style {
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent: indent.map(|n| n.min(MAX_DEPTH)),
        item_separator,
        key_separator,
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    kwargs.assert_all_used()?;
    let mut out = String::new();
    Writer { state, style, out: &mut out }.value(value, 0)?;
    Ok(out)
}

struct Writer<'a> {
    state: &'a State<'a, 'a>,
    style: Style,
    out: &'a mut String,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.state.consume_fuel(1)?;
        if depth > MAX_DEPTH {
            return Err(Error::new(ErrorKind::InvalidOperation, "value is nested too deep for JSON"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Map => self.map(value, depth)?,
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.group('[', ']', depth, items, |writer, item| writer.value(&item, depth + 1))?;
            }
            kind => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("{kind} is not JSON serializable"),
                ));
            }
        }
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.style.sort_keys {
            keys.sort();
        }
        self.group('{', '}', depth, keys, |writer, key| {
            match key.as_str() {
                Some(key) => writer.string(key),
                None => writer.string(&key.to_string()),
            }
            writer.out.push_str(&writer.style.key_separator);
            writer.value(&value.get_item(&key)?, depth + 1)
        })
    }

    fn group(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        items: Vec<Value>,
        mut write: impl FnMut(&mut Self, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let is_empty = items.is_empty();
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.out.push_str(&self.style.item_separator);
            }
            self.line_break(depth + 1);
            write(self, item)?;
        }
        if !is_empty {
            self.line_break(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line_break(&mut self, depth: usize) {
        if let Some(indent) = self.style.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    /// Whole numbers as they are, others with a point, as both languages print them.
    fn number(&mut self, value: &Value) {
        match serde_json::to_string(value) {
            Ok(number) => self.out.push_str(&number),
            Err(_) => self.out.push_str("NaN"),
        }
    }

    /// Escapes what Python escapes. Noncharacters pass even with `ensure_ascii`: a shield must survive this filter.
    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                '\0'..='\u{1f}' => self.escape(c),
                '\u{fdd0}'..='\u{fdef}' => self.out.push(c),
                _ if self.style.ensure_ascii && !c.is_ascii() => self.escape(c),
                _ => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, c: char) {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(self.out, "\\u{unit:04x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use minijinja::value::Serde;
    use minijinja::{Environment, context};

    fn render(source: &str) -> String {
        let mut environment = Environment::new();
        environment.add_filter("tojson", super::tojson);
        let value =
            serde_json::json!({ "b": [1, 2.5, 1.0, true, null], "a": { "é\n": "<&'\u{1}\"" }, "e": [] });
        environment.render_str(source, context! { value => Serde(value) }).unwrap()
    }

    #[test]
    fn writes_what_python_writes() {
        let want = r#"{"b": [1, 2.5, 1.0, true, null], "a": {"é\n": "<&'\u0001\""}, "e": []}"#;
        assert_eq!(render("{{ value | tojson }}"), want);
        assert_eq!(render("{{ 'é😀' | tojson(ensure_ascii=true) }}"), r#""\u00e9\ud83d\ude00""#);
        assert_eq!(render("{{ [1, 2] | tojson(separators=(',', ':')) }}"), "[1,2]");
    }

    #[test]
    fn indents_as_python_indents() {
        assert_eq!(
            render("{{ {'a': [1, 2], 'e': {}} | tojson(indent=2) }}"),
            "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"e\": {}\n}"
        );
    }
}
