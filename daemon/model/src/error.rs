//! What can go wrong between a model file and its first logits.

/// A model that can't be bound or a step that can't be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file lacks a tensor, or can't be read.
    #[error(transparent)]
    Weights(#[from] weights::Error),
    /// A tensor has another shape than the hyperparameters say.
    #[error("tensor {name}: shape {got:?}, want {want:?}")]
    TensorShape {
        /// Tensor name.
        name: String,
        /// Shape in the file, outermost dimension first.
        got: Vec<usize>,
        /// Shape the hyperparameters ask for.
        want: Vec<usize>,
    },
    /// The CPU executor could not start.
    #[error(transparent)]
    Kernels(#[from] kernels::Error),
    /// The graphics card cannot be used, or no longer.
    #[error(transparent)]
    Gpu(#[from] gpu::Error),
    /// The card computes something else than the processor.
    #[error(
        "{card} computes wrongly (its results are {likeness:.3} alike to the processor's, 1 is the same): update its driver, and \
         tell us; answers do not come from it"
    )]
    CardWrong {
        /// The card.
        card: String,
        /// Cosine of the logits.
        likeness: f64,
    },
    /// Rules that this version can't follow.
    #[error("the rules cannot be followed: {what}; `wels plan` derives rules that can")]
    RulesRefused {
        /// Which, and what can be done.
        what: String,
    },
    /// Routed experts cannot be had.
    #[error(transparent)]
    Experts(#[from] experts::Error),
    /// Something that the sequence needs could not be read.
    #[error("the model's files could not be read: {cause}")]
    Unreadable {
        /// What, and why.
        cause: String,
    },
    /// A chunk would write beyond the tokens its sequence reserved.
    #[error("sequence {seq}: {wanted} tokens wanted, {reserved} reserved")]
    BeyondReservation {
        /// The sequence.
        seq: usize,
        /// Length after the chunk.
        wanted: usize,
        /// Length reserved.
        reserved: usize,
    },
    /// A token id outside the vocabulary.
    #[error("token {id} is outside the vocabulary of {n_vocab}")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Vocabulary size.
        n_vocab: usize,
    },
    /// Placement rules that can't be read.
    #[error("placement rules: {problem}")]
    Rules {
        /// What is wrong, where, and what can be.
        problem: String,
    },
    /// A placement rule that can't be followed.
    #[error("placement rules: rule {rule}, {field}: {problem}")]
    Rule {
        /// Which one, from 1.
        rule: usize,
        /// The rule's field.
        field: &'static str,
        /// What is wrong, and what can be.
        problem: String,
    },
    /// What every token needs does not fit where rules put it.
    #[error(
        "what every token needs takes {need_gib:.1} GiB of {tier}, and {have_gib:.1} GiB are there for it: {remedy}"
    )]
    NoRoom {
        /// Which memory.
        tier: &'static str,
        /// Weights, KV cache and activations.
        need_gib: f64,
        /// After what is reserved.
        have_gib: f64,
        /// What to do now.
        remedy: &'static str,
    },
}
