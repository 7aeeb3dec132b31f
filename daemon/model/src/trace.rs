//! What happened inside the layers, for comparison with other people's computations.

use tensor::reference::Choice;

/// Recorded over all tokens of all steps since [`Model::start_trace`](crate::Model::start_trace), in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The residual stream behind each layer, [n_tokens, d_model].
    pub hidden: Vec<Vec<f32>>,
    /// The routers' choices in each layer that has one, [n_tokens, top_k], by descending weight.
    pub choices: Vec<Vec<Choice>>,
}

impl Trace {
    pub(crate) fn add_hidden(&mut self, layer: usize, hidden: &[f32]) {
        at(&mut self.hidden, layer).extend_from_slice(hidden);
    }

    /// `mixture` counts the layers that have a router.
    pub(crate) fn add_choices(&mut self, mixture: usize, choices: &[Choice]) {
        at(&mut self.choices, mixture).extend_from_slice(choices);
    }
}

fn at<T>(lists: &mut Vec<Vec<T>>, idx: usize) -> &mut Vec<T> {
    if lists.len() <= idx {
        lists.resize_with(idx + 1, Vec::new);
    }
    &mut lists[idx]
}
