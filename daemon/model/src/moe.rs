//! The mixture of experts: a router, the experts it chooses, and those that all tokens share.
//!
//! ```text
//! out[t] = shared(x[t]) + sum over the top_k experts e of t: weight[t, e] expert_e(x[t])
//! ```
//! Experts are computed in the order they become ready, each for all of its tokens; their results are kept apart and
//! summed in the router's order, so that the sum does not depend on that order.
//! Source: DeepSeekMoE, arXiv:2401.06066; DeepSeek-V3, arXiv:2412.19437, section 2.1.2.

use std::ops::Range;

use experts::{Expert, Experts};
use kernels::{Choice, Cpu, Fit, Linear, Router, Tokens};
use weights::{Moe, Weights};

use crate::Error;
use crate::layers::{FeedForward, FfnBuffers, Projection, vector};
use crate::pass::Pass;
use crate::skip::skip_missing;

/// Tokens of experts that are computed together: enough for full batches, with activations of some 50 MB.
pub(crate) const GROUP_ROWS: usize = 2048;

/// The mixture of one layer.
#[derive(Debug)]
pub(crate) struct Mixture {
    layer: u32,
    /// Mixtures before this one.
    idx: usize,
    router: Projection,
    bias: Option<Vec<f32>>,
    rule: Router,
    n_experts: usize,
    d_expert: usize,
    shared: Option<FeedForward>,
}

/// Activations of a mixture.
#[derive(Debug, Default)]
pub(crate) struct MixtureBuffers {
    /// [n_tokens, n_experts]
    logits: Vec<f32>,
    /// [n_tokens, top_k]
    choices: Vec<Choice>,
    /// The same, as guessed for the next mixture.
    guesses: Vec<Choice>,
    routes: Routes,
    /// Results of the experts, a row a choice: [n_tokens * top_k, d_model].
    rows: Vec<f32>,
    /// Of the experts that are ready, a row for each of their tokens: [rows, d_expert].
    gate: Vec<f32>,
    up: Vec<f32>,
    ffn: Vec<f32>,
}

/// A step's choices by expert. Results lie expert after expert, each one's tokens in order.
#[derive(Debug, Default)]
struct Routes {
    /// Experts that any token goes to, ascending, each with the number of its tokens.
    experts: Vec<(u32, u32)>,
    /// Of each expert of the layer, its first row of results; one entry more than experts.
    first: Vec<usize>,
    /// Of each row of results, its token.
    tokens: Vec<u32>,
    /// Of each choice, its row of results: [n_tokens, top_k].
    places: Vec<u32>,
}

impl Routes {
    /// Sorts the choices [n_tokens, top_k] by expert. What has no weight needs no expert: its place is any.
    fn sort(&mut self, choices: &[Choice], top_k: usize, n_experts: usize) {
        let Self { experts, first, tokens, places } = self;
        first.clear();
        first.resize(n_experts + 1, 0);
        let counts = |choice: &&Choice| choice.weight != 0.0;
        choices.iter().filter(counts).for_each(|choice| first[choice.expert as usize + 1] += 1);
        let n_tokens = |e: u32| (e, first[e as usize + 1] as u32);
        experts.clear();
        experts.extend((0..n_experts as u32).map(n_tokens).filter(|&(_, n)| n > 0));
        (0..n_experts).for_each(|e| first[e + 1] += first[e]);
        let mut next = first.clone();
        tokens.resize(next[n_experts], 0);
        places.clear();
        for (i, choice) in choices.iter().enumerate() {
            if choice.weight == 0.0 {
                places.push(0);
                continue;
            }
            let row = &mut next[choice.expert as usize];
            tokens[*row] = (i / top_k) as u32;
            places.push(*row as u32);
            *row += 1;
        }
    }

    /// How many of some experts, at least one, to compute together: up to [`GROUP_ROWS`] rows.
    fn group(&self, experts: &[Expert<'_>]) -> usize {
        let mut n_rows = 0;
        let fits = |expert: &&Expert<'_>| {
            n_rows += self.rows_of(expert.key.expert).len();
            n_rows <= GROUP_ROWS
        };
        experts.iter().take_while(fits).count().max(1)
    }

    /// Rows of results that are an expert's.
    fn rows_of(&self, expert: u32) -> Range<usize> {
        let idx = expert as usize;
        self.first[idx]..self.first[idx + 1]
    }
}

impl Mixture {
    pub(crate) fn bind(weights: &Weights, layer: usize, moe: &Moe) -> Result<Self, Error> {
        let hyper = weights.hyper();
        let name = |stage: &str| format!("blk.{layer}.{stage}");
        let bias = name("exp_probs_b.bias");
        let shared = (moe.n_shared > 0).then_some(moe.n_shared * moe.d_expert);
        Ok(Self {
            layer: layer as u32,
            idx: layer - moe.n_dense_layers,
            router: Projection::bind(weights, &name("ffn_gate_inp"), moe.n_experts, hyper.d_model)?,
            bias: match weights.tensor(&bias) {
                Some(_) => Some(vector(weights, &bias, moe.n_experts)?),
                None => None,
            },
            rule: moe.router(),
            n_experts: moe.n_experts,
            d_expert: moe.d_expert,
            shared: shared.map(|width| FeedForward::bind(weights, layer, "_shexp", width)).transpose()?,
        })
    }

    /// out <- the mixture of x, both [n_tokens, d_model].
    pub(crate) fn forward(
        &self,
        pass: &mut Pass<'_>,
        experts: &mut Experts,
        x: &[f32],
        out: &mut [f32],
        (a, ffn): (&mut MixtureBuffers, &mut FfnBuffers),
        next: Option<&Mixture>,
    ) {
        self.route(pass, x, a);
        self.routed(pass, experts, (x, out), a, next, |pass, x, out| match &self.shared {
            Some(shared) => shared.forward(pass.cpu, pass.weights, x, out, ffn),
            None => out.fill(0.0),
        });
    }

    /// out <- what `meanwhile` makes of it, plus the routed experts that are chosen in `a`; what is read is computed as it
    /// comes, behind `meanwhile`.
    fn routed(
        &self,
        pass: &mut Pass<'_>,
        experts: &mut Experts,
        (x, out): (&[f32], &mut [f32]),
        a: &mut MixtureBuffers,
        next: Option<&Mixture>,
        meanwhile: impl FnOnce(&mut Pass<'_>, &[f32], &mut [f32]),
    ) {
        let (n, d) = (pass.n_tokens(), pass.hyper().d_model);
        if let Some(share) = pass.skip_share.filter(|_| !experts.is_sweep()) {
            let there = |expert| experts.is_there(self.layer, expert);
            let n_skipped = skip_missing(&mut a.choices, self.rule.top_k, share, there, &mut pass.lost);
            experts.count_skipped(n_skipped);
        }
        a.routes.sort(&a.choices, self.rule.top_k, self.n_experts);
        a.rows.fit(a.choices.len() * d);
        let guess = next.filter(|_| experts.is_guessing()).map(|next| (next.layer, next.likely(pass, x, a)));
        let mut wanted = experts.want(self.layer, &a.routes.experts);
        if let Some((layer, likely)) = guess {
            wanted.guess(layer, &likely);
        }
        meanwhile(pass, x, out);
        let cpu = &mut *pass.cpu;
        while let Some(ready) = wanted.ready() {
            let mut rest = ready.as_slice();
            while !rest.is_empty() {
                let (group, later) = rest.split_at(a.routes.group(rest));
                self.compute(cpu, group, x, n, a);
                rest = later;
            }
        }
        for (key, error) in wanted.into_failed() {
            let rows = a.routes.rows_of(key.expert);
            a.rows[rows.start * d..rows.end * d].fill(0.0);
            pass.fail(&a.routes.tokens[rows], &error);
        }
        let cpu = &mut *pass.cpu;
        cpu.combine(out, d, &a.rows, &a.choices, &a.routes.places);
    }

    /// out <- the routed experts of choices that a card has made; those of no weight are left out.
    pub(crate) fn of_choices(
        &self,
        pass: &mut Pass<'_>,
        experts: &mut Experts,
        (x, out): (&[f32], &mut [f32]),
        choices: &[Choice],
        a: &mut MixtureBuffers,
        next: Option<&Mixture>,
    ) {
        a.choices.clear();
        a.choices.extend_from_slice(choices);
        self.routed(pass, experts, (x, out), a, next, |_, _, out| out.fill(0.0));
    }

    /// Gives `each` the experts of choices that a card has made, as they are ready: which could not be had.
    pub(crate) fn bring(
        &self,
        pass: &mut Pass<'_>,
        experts: &mut Experts,
        choices: &[Choice],
        a: &mut MixtureBuffers,
        each: &mut dyn FnMut(&Expert<'_>),
    ) -> Vec<u32> {
        a.routes.sort(choices, self.rule.top_k, self.n_experts);
        let mut wanted = experts.want(self.layer, &a.routes.experts);
        while let Some(ready) = wanted.ready() {
            ready.as_slice().iter().for_each(&mut *each);
        }
        let failed = wanted.into_failed().into_iter().map(|(key, error)| {
            pass.fail(&a.routes.tokens[a.routes.rows_of(key.expert)], &error);
            key.expert
        });
        failed.collect()
    }

    /// choices <- the router's, for every token.
    fn route(&self, pass: &mut Pass<'_>, x: &[f32], a: &mut MixtureBuffers) {
        self.choose(pass, x, &mut a.logits, &mut a.choices);
        if let Some(trace) = &mut pass.trace {
            trace.add_choices(self.idx, &a.choices);
        }
    }

    /// choices [n_tokens, top_k] <- what the router makes of x.
    fn choose(&self, pass: &mut Pass<'_>, x: &[f32], logits: &mut Vec<f32>, choices: &mut Vec<Choice>) {
        let n = pass.n_tokens();
        logits.fit(n * self.n_experts);
        choices.fit(n * self.rule.top_k);
        pass.cpu.linear(x, n, &mut [self.router.job(pass.weights, logits)]);
        pass.cpu.route(choices, logits, self.n_experts, self.bias.as_deref(), &self.rule);
    }

    /// The experts that this mixture will probably want: its router's choices for the tokens `x` of the mixture before it, as
    /// the residual stream changes little from layer to layer. The last layer's choices are left alone.
    fn likely(&self, pass: &mut Pass<'_>, x: &[f32], a: &mut MixtureBuffers) -> Vec<u32> {
        self.choose(pass, x, &mut a.logits, &mut a.guesses);
        a.guesses.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        let mut likely = Vec::new();
        a.guesses.iter().filter(|choice| choice.weight > 0.0).for_each(|choice| {
            if !likely.contains(&choice.expert) {
                likely.push(choice.expert);
            }
        });
        likely
    }

    /// Rows of results <- down(silu(gate x) * up x) of some experts, in ascending order, each for its tokens.
    fn compute(
        &self,
        cpu: &mut Cpu,
        ready: &[Expert<'_>],
        x: &[f32],
        n_tokens: usize,
        a: &mut MixtureBuffers,
    ) {
        let MixtureBuffers { routes, rows, gate, up, ffn, .. } = a;
        let width = self.d_expert;
        let n_rows: usize = ready.iter().map(|expert| routes.rows_of(expert.key.expert).len()).sum();
        for buffer in [&mut *gate, &mut *up, &mut *ffn] {
            buffer.fit(n_rows * width);
        }
        let mut jobs = Vec::with_capacity(2 * ready.len());
        let (mut gates, mut ups) = (gate.as_mut_slice(), up.as_mut_slice());
        for expert in ready {
            let tokens = &routes.tokens[routes.rows_of(expert.key.expert)];
            let (gate, up) = (take(&mut gates, tokens.len() * width), take(&mut ups, tokens.len() * width));
            jobs.push(Linear::new(expert.gate, gate).tokens(Tokens::List(tokens)));
            jobs.push(Linear::new(expert.up, up).tokens(Tokens::List(tokens)));
        }
        cpu.linear(x, n_tokens, &mut jobs);
        cpu.swiglu(ffn, gate, up);
        down(cpu, ready, (ffn, n_rows), routes, rows);
    }
}

/// Rows of results <- down of the activations [n_rows, d_expert], expert after expert.
fn down(
    cpu: &mut Cpu,
    ready: &[Expert<'_>],
    (ffn, n_rows): (&[f32], usize),
    routes: &Routes,
    rows: &mut [f32],
) {
    let d = rows.len() / routes.places.len();
    let mut jobs = Vec::with_capacity(ready.len());
    let (mut rest, mut end, mut first) = (rows, 0, 0);
    for expert in ready {
        let rows = routes.rows_of(expert.key.expert);
        take(&mut rest, (rows.start - end) * d);
        end = rows.end;
        let tokens = Tokens::Every { first, step: 1, n: rows.len() };
        jobs.push(Linear::new(expert.down, take(&mut rest, rows.len() * d)).tokens(tokens));
        first += rows.len();
    }
    cpu.linear(ffn, n_rows, &mut jobs);
}

/// Splits the first `n` values off.
fn take<'a>(rest: &mut &'a mut [f32], n: usize) -> &'a mut [f32] {
    let (taken, left) = std::mem::take(rest).split_at_mut(n);
    *rest = left;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_finds_its_row_and_every_row_its_token() {
        let choices = [3, 0, 0, 2, 3, 2].map(|expert| Choice { expert, weight: 1.0 });
        let mut routes = Routes::default();
        routes.sort(&choices, 2, 5);
        assert_eq!(routes.experts, [(0, 2), (2, 2), (3, 2)]);
        let tokens_of = |expert: usize| &routes.tokens[routes.first[expert]..routes.first[expert + 1]];
        assert_eq!(tokens_of(0), [0, 1]);
        assert!(tokens_of(1).is_empty());
        assert_eq!(tokens_of(3), [0, 2]);
        for (i, choice) in choices.iter().enumerate() {
            let row = routes.places[i] as usize;
            assert_eq!(routes.tokens[row] as usize, i / 2);
            assert!(
                (routes.first[choice.expert as usize]..routes.first[choice.expert as usize + 1])
                    .contains(&row)
            );
        }
    }
}
