//! Model families by the names that files give them: those that run, and one kind that is known and doesn't.

use crate::{Architecture, BadField, ValueProblem};

/// Which of the two formats a name comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Naming {
    /// `model_type` in config.json.
    HuggingFace,
    /// `general.architecture` in metadata.
    Gguf,
}

/// Families whose layers choose the tokens they attend to (DeepSeek sparse attention, arXiv:2512.02556): in Hugging
/// Face's files, in GGUF files, for people. Sources: transformers and llama.cpp.
const SPARSE: [(&str, &str, &str); 2] =
    [("deepseek_v32", "deepseek32", "DeepSeek V3.2"), ("glm_moe_dsa", "glm-dsa", "GLM-5")];

impl Naming {
    /// The key that holds the name.
    fn key(self) -> &'static str {
        match self {
            Self::HuggingFace => "model_type",
            Self::Gguf => "general.architecture",
        }
    }

    fn supported(self) -> &'static str {
        match self {
            Self::HuggingFace => "llama, qwen2, deepseek_v2, deepseek_v3, kimi_k2",
            Self::Gguf => "llama, qwen2, deepseek2",
        }
    }

    /// The family of a name.
    ///
    /// # Errors
    /// No name, or one of a family that this version doesn't run.
    pub(crate) fn family(self, name: Option<&str>) -> Result<Architecture, BadField> {
        let name = name.ok_or_else(|| BadField::missing(self.key()))?;
        match (self, name) {
            (_, "llama") => Ok(Architecture::Llama),
            (_, "qwen2") => Ok(Architecture::Qwen2),
            // Kimi K2 is DeepSeek V3 with other numbers.
            (Self::HuggingFace, "deepseek_v2" | "deepseek_v3" | "kimi_k2") | (Self::Gguf, "deepseek2") => {
                Ok(Architecture::DeepSeek2)
            }
            _ => match self.sparse(name) {
                Some(model) => Err(sparse_attention(self.key(), format!("{name} ({model})"))),
                None => Err(BadField::unsupported(self.key(), name, self.supported())),
            },
        }
    }

    /// The sparse model of that name.
    fn sparse(self, name: &str) -> Option<&'static str> {
        let named = |(hugging_face, gguf, _): &&(&str, &str, &str)| match self {
            Self::HuggingFace => *hugging_face == name,
            Self::Gguf => *gguf == name,
        };
        SPARSE.iter().find(named).map(|(.., model)| *model)
    }
}

/// `key` says that the model's attention is sparse.
pub(crate) fn sparse_attention(key: impl Into<String>, got: impl ToString) -> BadField {
    BadField::new(key, ValueProblem::SparseAttention { got: got.to_string() })
}
