//! Rules as TOML: what administrators read and write.
//!
//! ```toml
//! [[rule]]
//! match = "blk.*.ffn_*_exps.*"  # glob over GGUF's tensor names: * any text, ? one character
//! layers = "3-60"               # optional: of these layers only
//! experts = "0-8"               # optional: of these routed experts of each layer only
//! device = "gpu"                # gpu or cpu
//! tier = "vram"                 # optional: what finds no room there falls to the next of vram, ram, nvme
//! format = "as-is"              # optional: what matrices are converted to on a card: as-is, f32, f16 or q8_0
//! kernel = "auto"               # optional, of a card: auto, f32, or int8 (activations of prompts in 8 bits)
//! ```

use std::fmt::Write;

use tensor::DType;
use toml::{Table, Value};

use super::Placement;
use super::rule::{Device, Kernel, Rule, Span, Tier};
use crate::Error;

/// Rules in a placement at most: R1's 61 layers, four times over.
pub const RULES_MAX: usize = 256;
/// Bytes of a file of rules at most.
const TEXT_MAX: usize = 256 << 10;
/// Characters of a glob at most.
const PATTERN_MAX: usize = 256;
/// What matrices may be converted to on their way to a card.
const FORMATS: [(&str, Option<DType>); 4] =
    [("as-is", None), ("f32", Some(DType::F32)), ("f16", Some(DType::F16)), ("q8_0", Some(DType::Q8_0))];
/// What a rule may say.
const FIELDS: [&str; 7] = ["match", "layers", "experts", "device", "tier", "format", "kernel"];

impl Placement {
    /// Reads rules.
    ///
    /// # Errors
    /// It is no TOML, or a rule has a field that isn't known or a value that isn't allowed: the error names both and what is.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > TEXT_MAX {
            return Err(rules(format!("{} bytes; {TEXT_MAX} at most are read", text.len())));
        }
        let table: Table = text.parse().map_err(|error: toml::de::Error| rules(error.to_string()))?;
        if let Some(key) = table.keys().find(|key| *key != "rule") {
            return Err(rules(format!("{key:?} is not known: each rule begins with a line [[rule]]")));
        }
        let list = match table.get("rule") {
            None => &Vec::new(),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(rules("each rule begins with a line [[rule]]".into())),
        };
        if list.len() > RULES_MAX {
            return Err(rules(format!("{} rules; {RULES_MAX} at most can be", list.len())));
        }
        list.iter().enumerate().map(|(i, value)| rule(i + 1, value)).collect::<Result<_, _>>().map(Self::new)
    }

    /// The rules as [`Placement::parse`] reads them.
    pub fn to_toml(&self) -> String {
        let mut text =
            "# Which device computes with which tensors: the first rule that matches a tensor's name decides.\n".to_owned();
        for rule in &self.rules {
            write_rule(&mut text, rule).expect("strings take any text");
        }
        text
    }
}

fn write_rule(text: &mut String, rule: &Rule) -> std::fmt::Result {
    writeln!(text, "\n[[rule]]\nmatch = \"{}\"", rule.pattern)?;
    for (field, span) in [("layers", rule.layers), ("experts", rule.experts)] {
        if let Some(span) = span {
            writeln!(text, "{field} = \"{span}\"")?;
        }
    }
    writeln!(text, "device = \"{}\"\ntier = \"{}\"", rule.device.name(), rule.tier.name())?;
    let format = FORMATS.iter().find(|(_, format)| *format == rule.format).map_or("as-is", |(name, _)| name);
    writeln!(text, "format = \"{format}\"\nkernel = \"{}\"", rule.kernel.name())
}

/// About the file as a whole.
fn rules(problem: String) -> Error {
    Error::Rules { problem }
}

/// The `nth` rule, from 1.
fn rule(nth: usize, value: &Value) -> Result<Rule, Error> {
    let table = value.as_table().ok_or_else(|| rules("each rule begins with a line [[rule]]".into()))?;
    if let Some(key) = table.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(rules(format!("rule {nth}: {key:?} is not known; a rule has {}", FIELDS.join(", "))));
    }
    let fields = Fields { nth, table };
    let pattern = fields.pattern()?;
    let device = fields.word("device", &Device::ALL.map(|d| (d.name(), d)))?;
    let device = device.ok_or_else(|| fields.wrong("device", "is missing: gpu or cpu".into()))?;
    Ok(Rule {
        pattern: pattern.to_owned(),
        layers: fields.span("layers")?,
        experts: fields.span("experts")?,
        device,
        tier: fields.tier(device)?,
        format: fields.of_card(device, "format", &FORMATS)?.flatten(),
        kernel: fields
            .of_card(device, "kernel", &Kernel::ALL.map(|k| (k.name(), k)))?
            .unwrap_or(Kernel::Auto),
    })
}

/// One rule's table.
struct Fields<'a> {
    nth: usize,
    table: &'a Table,
}

impl<'a> Fields<'a> {
    fn wrong(&self, field: &'static str, problem: String) -> Error {
        Error::Rule { rule: self.nth, field, problem }
    }

    /// The text of a field; `None` where it is absent.
    fn text(&self, field: &'static str) -> Result<Option<&'a str>, Error> {
        match self.table.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(field, format!("{other} is no text: put it in quotes"))),
        }
    }

    /// One of `words`.
    fn word<T: Copy>(&self, field: &'static str, words: &[(&str, T)]) -> Result<Option<T>, Error> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        let found = words.iter().find(|(word, _)| *word == text);
        let allowed = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        match found {
            Some((_, value)) => Ok(Some(*value)),
            None => Err(self.wrong(field, format!("{text:?} is none of {}", allowed()))),
        }
    }

    fn pattern(&self) -> Result<&'a str, Error> {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || "._-*?".contains(c);
        match self.text("match")? {
            None => Err(self.wrong("match", "is missing: a tensor's name, where * is any text".into())),
            Some(text) if text.is_empty() || text.len() > PATTERN_MAX => {
                Err(self.wrong("match", format!("1 to {PATTERN_MAX} characters can be")))
            }
            Some(text) => match text.chars().find(|&c| !is_fine(c)) {
                Some(c) => Err(self
                    .wrong("match", format!("{c:?} is in no tensor's name; * is any text, ? one character"))),
                None => Ok(text),
            },
        }
    }

    fn span(&self, field: &'static str) -> Result<Option<Span>, Error> {
        let wrong = |text| self.wrong(field, format!("{text:?} is no range: write \"7\" or \"0-30\""));
        self.text(field)?.map(|text| Span::parse(text).ok_or_else(|| wrong(text))).transpose()
    }

    /// A device computes with what lies in its memory, and the processor with what comes from the drive.
    fn tier(&self, device: Device) -> Result<Tier, Error> {
        let tier = self.word("tier", &Tier::ALL.map(|t| (t.name(), t)))?.unwrap_or(device.tier());
        if tier.device() != device {
            let allowed = match device {
                Device::Gpu => "vram goes with device gpu",
                Device::Cpu => "ram or nvme go with device cpu",
            };
            return Err(
                self.wrong("tier", format!("{:?} does not go with this device: {allowed}", tier.name()))
            );
        }
        Ok(tier)
    }

    /// One of `words`; for the processor the first, which changes nothing.
    fn of_card<T: Copy>(
        &self,
        device: Device,
        field: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Error> {
        let text = self.text(field)?;
        let found = self.word(field, words)?;
        match text.filter(|text| device == Device::Cpu && *text != words[0].0) {
            Some(text) => Err(self.wrong(
                field,
                format!("{text:?} goes with device gpu: the processor takes tensors as the file has them, and computes as --precision says"),
            )),
            None => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: &str = "[[rule]]\nmatch = \"*\"\ndevice = \"cpu\"\n";

    fn complaint(text: &str) -> String {
        Placement::parse(text).expect_err(text).to_string()
    }

    fn span() -> impl Strategy<Value = Option<Span>> {
        proptest::option::of(
            (0_u32..100, 0_u32..100).prop_map(|(first, more)| Span::new(first, first + more)),
        )
    }

    prop_compose! {
        fn any_rule()(
            pattern in "[a-z0-9._*?]{1,30}", layers in span(), experts in span(),
            tier in proptest::sample::select(Tier::ALL.to_vec()),
            kernel in proptest::sample::select(Kernel::ALL.to_vec()),
            (_, format) in proptest::sample::select(FORMATS.to_vec()),
        ) -> Rule {
            let device = tier.device();
            let (format, kernel) = if device == Device::Gpu { (format, kernel) } else { (None, Kernel::Auto) };
            Rule { pattern, layers, experts, device, tier, format, kernel }
        }
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let placement = Placement::parse(RULE).expect("a rule");
        assert_eq!(placement, Placement::on_cpu());
        assert_eq!(Placement::parse("# nothing\n").expect("no rules"), Placement::default());
    }

    #[test]
    fn errors_name_the_rule_the_field_and_what_is_allowed() {
        for (more, want) in [
            ("tier = \"vram\"", "rule 2, tier: \"vram\" does not go with this device: ram or nvme"),
            ("tier = \"tape\"", "rule 2, tier: \"tape\" is none of vram, ram, nvme"),
            ("kernel = \"fast\"", "rule 2, kernel: \"fast\" is none of auto, f32, int8"),
            ("kernel = 8", "rule 2, kernel: 8 is no text"),
            ("format = \"Q4_K\"", "rule 2, format: \"Q4_K\" is none of as-is, f32, f16, q8_0"),
            ("format = \"f16\"", "rule 2, format: \"f16\" goes with device gpu"),
            ("kernel = \"int8\"", "rule 2, kernel: \"int8\" goes with device gpu"),
            ("layers = \"9-1\"", "rule 2, layers: \"9-1\" is no range: write \"7\" or \"0-30\""),
            ("expert = \"1\"", "rule 2: \"expert\" is not known; a rule has match, layers, experts"),
        ] {
            let error = complaint(&format!("{RULE}{RULE}{more}"));
            assert!(error.contains(want), "{want}: {error}");
        }
    }

    #[test]
    fn rules_need_a_match_and_a_device() {
        for (text, want) in [
            ("[[rule]]\ndevice = \"cpu\"", "rule 1, match: is missing"),
            ("[[rule]]\nmatch = \"*\"", "rule 1, device: is missing: gpu or cpu"),
            ("[[rule]]\nmatch = \"{a,b}\"\ndevice = \"cpu\"", "rule 1, match: '{' is in no tensor's name"),
            ("[[rule]]\nmatch = \"*\"\ndevice = \"npu\"", "rule 1, device: \"npu\" is none of gpu, cpu"),
            ("[rule]\nmatch = \"*\"", "each rule begins with a line [[rule]]"),
            ("rule = [1]", "each rule begins with a line [[rule]]"),
            ("[[rules]]", "\"rules\" is not known"),
            ("[[rule]", "TOML parse error at line 1"),
        ] {
            let error = complaint(text);
            assert!(error.contains(want), "{want}: {error}");
        }
    }

    #[test]
    fn there_is_a_most_of_rules() {
        Placement::parse(&RULE.repeat(RULES_MAX)).expect("as many as can be");
        assert!(complaint(&RULE.repeat(RULES_MAX + 1)).contains("257 rules; 256 at most"));
    }

    proptest! {
        #[test]
        fn rules_written_are_read_again(rules in proptest::collection::vec(any_rule(), 0..20)) {
            let placement = Placement::new(rules);
            prop_assert_eq!(Placement::parse(&placement.to_toml()).expect("what was written"), placement);
        }

        #[test]
        fn any_text_is_rules_or_an_error(text in "(\\[\\[rule\\]\\]\n)?([a-z]{0,6} = [\"'0-9a-z\\-\\[\\]*]{0,8}\n){0,4}\\PC{0,20}") {
            let _ = Placement::parse(&text);
        }
    }
}
