//! Pre-tokenizers by the name GGUF gives them (`tokenizer.ggml.pre`).
//!
//! A pre-tokenizer cuts text into words before byte-pair encoding; a merge never crosses the cut. GGUF stores only the
//! name, so the patterns live here, as the models' own tokenizer.json files have them.
//! Source of names and patterns: llama.cpp `llama-vocab.cpp`, checked against its vocabulary tests.

use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use crate::Error;

/// One family of names that cut text the same way.
struct Family {
    names: &'static [&'static str],
    /// Applied in order; each match becomes a word of its own, and later patterns see only within words.
    patterns: &'static [&'static str],
    /// Text is brought into Unicode's composed form first.
    nfc: bool,
    ignore_merges: bool,
    /// What `add_bos` is where the file does not say.
    add_bos: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
/// Kimi K2's words: Chinese by itself, other letters with at most one change from capitals to small ones, each with what
/// follows its apostrophe.
const KIMI_K2: &str = r"\p{Han}+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The letters DeepSeek LLM's first tokenizer joins into words: Unicode's cased letters at the time.
const DEEPSEEK_LLM_LETTERS: &str = "\
    \\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ\
    -ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u{1f7d}ᾀ-ᾴᾶ-ᾼ\u{1fbe}ῂ-ῄῆ-ῌῐ-\u{1fd3}ῖ-\u{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u{2126}ℨ\
    \u{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";

const FAMILIES: [Family; 12] = [
    Family {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"],
        patterns: &[LLAMA3],
        nfc: false,
        ignore_merges: true,
        add_bos: true,
    },
    Family { names: &["smaug-bpe", "dbrx", "chatglm-bpe"], patterns: &[LLAMA3], ..PLAIN },
    Family { names: &["qwen2", "deepseek-r1-qwen", "megrez"], patterns: &[QWEN2], nfc: true, ..PLAIN },
    Family { names: &["stablelm2", "hunyuan", "grok-2"], patterns: &[QWEN2], ..PLAIN },
    Family { names: &["qwen35"], patterns: &[QWEN35], ..PLAIN },
    Family {
        names: &["deepseek-v3", "hunyuan-dense"],
        patterns: &[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_V3],
        ..PLAIN
    },
    // tiktoken looks a whole word up before it merges.
    Family { names: &["kimi-k2"], patterns: &[KIMI_K2], ignore_merges: true, ..PLAIN },
    Family {
        names: &["deepseek-llm"],
        patterns: &[
            r"[\r\n]",
            DEEPSEEK_LLM_LETTERS,
            "\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+",
            r"\s+$",
            "[一-龥ࠀ-一가-\u{d7ff}]+",
            r"\p{N}",
        ],
        ..PLAIN
    },
    Family {
        names: &["deepseek-coder"],
        patterns: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\u{d7ff}]+", r"\p{N}"],
        ..PLAIN
    },
    Family {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        patterns: &[r"\p{N}", GPT2],
        ..PLAIN
    },
    Family { names: &["falcon"], patterns: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"], ..PLAIN },
    Family { names: &["gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4"], patterns: &[GPT2], ..PLAIN },
];

const PLAIN: Family = Family { names: &[], patterns: &[], nfc: false, ignore_merges: false, add_bos: false };

/// `default`, and what files without a name mean: the pattern of early converters.
const DEFAULT: Family = Family {
    names: &["default"],
    patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    ..PLAIN
};

/// A byte-level pre-tokenizer, ready to use.
pub(super) struct ByteLevelPre {
    pub(super) normalizer: Option<NormalizerWrapper>,
    pub(super) pre_tokenizer: PreTokenizerWrapper,
    pub(super) ignore_merges: bool,
    pub(super) add_bos: bool,
}

/// The pre-tokenizer of a name; `None` is `default`.
pub(super) fn by_name(name: Option<&str>) -> Result<ByteLevelPre, Error> {
    let name = name.unwrap_or("default");
    let family = FAMILIES
        .iter()
        .chain([&DEFAULT])
        .find(|family| family.names.contains(&name))
        .ok_or_else(|| Error::UnknownPreTokenizer { name: name.to_owned(), supported: supported() })?;
    Ok(ByteLevelPre {
        normalizer: family.nfc.then_some(NormalizerWrapper::NFC(NFC)),
        pre_tokenizer: cutter(family.patterns)?,
        ignore_merges: family.ignore_merges,
        add_bos: family.add_bos,
    })
}

fn supported() -> String {
    let names: Vec<&str> =
        FAMILIES.iter().chain([&DEFAULT]).flat_map(|family| family.names).copied().collect();
    names.join(", ")
}

fn cutter(patterns: &[&str]) -> Result<PreTokenizerWrapper, Error> {
    let split = |pattern: &&str| {
        let pattern = SplitPattern::Regex((*pattern).to_owned());
        Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map(PreTokenizerWrapper::Split)
    };
    let mut steps =
        patterns.iter().map(split).collect::<tokenizers::Result<Vec<_>>>().map_err(Error::encode)?;
    steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, false)));
    Ok(PreTokenizerWrapper::Sequence(Sequence::new(steps)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_compiles_and_is_found_by_each_of_its_names() {
        for name in FAMILIES.iter().chain([&DEFAULT]).flat_map(|family| family.names) {
            assert!(by_name(Some(name)).is_ok(), "{name}");
        }
        assert!(by_name(None).is_ok());
    }

    #[test]
    fn an_unknown_name_says_what_is_known() {
        let error = by_name(Some("klingon")).err().expect("not a known name").to_string();
        assert!(error.contains("klingon") && error.contains("qwen2") && error.contains("default"), "{error}");
    }
}
