//! `wels bench --kernels --moe`: the routed experts of one layer, computed as the model computes them, on made-up weights and
//! random choices.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Result, ensure};
use kernels::{Choice, Cpu, Linear, Tokens};
use serde_json::{Value, json};
use tensor::{DType, Matrix};

use super::limits::Limits;
use super::products::{expect_finite, fastest_s, made_up_values, made_up_weights, packed, say};

/// Of gate and up; down takes turns: published mixes have half of the layers in the larger.
const FORMAT: DType = DType::Q4K;
const DOWN_FORMATS: [DType; 2] = [DType::Q4K, DType::Q6K];
/// Tokens of a step.
const TOKENS: [usize; 3] = [1, 8, 512];
/// Steps of a single token for each of the repetitions: one is short.
const SHORT_RUNS: usize = 8;

/// The shape of a layer's routed experts: `7168x2048:8/256`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mixture {
    d_model: usize,
    d_expert: usize,
    top_k: usize,
    n_experts: usize,
}

impl FromStr for Mixture {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Vec<usize> = text.split(['x', ':', '/']).map_while(|word| word.parse().ok()).collect();
        let wanted =
            "width of the model x of an expert : experts of a token / of the layer, e.g. 7168x2048:8/256";
        let &[d_model, d_expert, top_k, n_experts] = numbers.as_slice() else { anyhow::bail!("{wanted}") };
        ensure!(text == format!("{d_model}x{d_expert}:{top_k}/{n_experts}"), "{wanted}");
        ensure!((1..=n_experts).contains(&top_k), "a token cannot go to {top_k} of {n_experts} experts");
        let whole = |width: usize| width > 0 && width.is_multiple_of(FORMAT.block_values());
        ensure!(whole(d_model) && whole(d_expert), "widths are multiples of {}", FORMAT.block_values());
        Ok(Self { d_model, d_expert, top_k, n_experts })
    }
}

impl Mixture {
    /// Prints and returns the speed for each number of tokens.
    pub(super) fn measure(&self, cpu: &mut Cpu, limits: &Limits, repeat: usize) -> Result<Vec<Value>> {
        let Self { d_model, d_expert, top_k, n_experts } = self;
        say(&format!("routed experts of a layer, {d_model}x{d_expert}, {top_k} of {n_experts} a token"));
        let mut rows = Vec::new();
        for down in DOWN_FORMATS {
            let weights = Weights::new(self, down);
            for n in TOKENS {
                rows.push(weights.measure(cpu, n, limits, repeat)?);
            }
        }
        Ok(rows)
    }
}

/// Experts of one layer.
struct Weights<'a> {
    shape: &'a Mixture,
    down_format: DType,
    /// Gate, up and down of every expert, one expert after the other.
    bytes: Vec<u8>,
}

impl<'a> Weights<'a> {
    fn new(shape: &'a Mixture, down_format: DType) -> Self {
        let mut weights = Self { shape, down_format, bytes: Vec::new() };
        weights.bytes = made_up_weights(weights.expert_bytes() * shape.n_experts);
        weights
    }

    fn matrix_bytes(&self, format: DType) -> usize {
        format.bytes_for(self.shape.d_model * self.shape.d_expert).expect("widths are whole blocks")
    }

    fn expert_bytes(&self) -> usize {
        2 * self.matrix_bytes(FORMAT) + self.matrix_bytes(self.down_format)
    }

    /// Gate, up and down.
    fn expert(&self, idx: usize) -> [Matrix<'_>; 3] {
        let Mixture { d_model, d_expert, .. } = *self.shape;
        let bytes = &self.bytes[idx * self.expert_bytes()..][..self.expert_bytes()];
        let (gate, rest) = bytes.split_at(self.matrix_bytes(FORMAT));
        let (up, down) = rest.split_at(gate.len());
        let parts = [
            (FORMAT, d_expert, d_model, gate),
            (FORMAT, d_expert, d_model, up),
            (self.down_format, d_model, d_expert, down),
        ];
        parts.map(|(format, rows, cols, data)| {
            packed(Matrix::new(format, rows, cols, data).expect("the bytes of a matrix"))
        })
    }

    /// Speed of steps of `n` tokens, each routed anew.
    fn measure(&self, cpu: &mut Cpu, n: usize, limits: &Limits, repeat: usize) -> Result<Value> {
        let n_runs = if n < TOKENS[2] { repeat * SHORT_RUNS } else { repeat };
        let routes: Vec<Routes> = (0..=n_runs).map(|seed| Routes::random(self.shape, n, seed)).collect();
        let mut step = Step::new(self.shape, n);
        step.run(cpu, self, &routes[n_runs]);
        let seconds = fastest_s(n_runs, |i| step.run(cpu, self, &routes[i]));
        expect_finite(&step.out)?;
        let n_used =
            routes[..n_runs].iter().map(|routes| routes.experts.len()).sum::<usize>() as f64 / n_runs as f64;
        let bytes_s = n_used * self.expert_bytes() as f64 / seconds;
        let ops_s = (6 * self.shape.d_model * self.shape.d_expert * self.shape.top_k * n) as f64 / seconds;
        say(&format!(
            "{FORMAT}, down {:5} {n:4} tokens {:9.2} ms {:7.1} GB/s ({:3.0} % of reading) {:7.0} Gop/s ({:4.1} % of the peak)",
            self.down_format.name(),
            seconds * 1e3,
            bytes_s / 1e9,
            100.0 * bytes_s / limits.read_bytes_s,
            ops_s / 1e9,
            100.0 * ops_s / limits.int8_ops_s
        ));
        Ok(json!({
            "format": FORMAT.name(), "down_format": self.down_format.name(), "tokens": n, "seconds": seconds,
            "experts_used": n_used, "bytes_s": bytes_s, "ops_s": ops_s,
        }))
    }
}

/// The tokens of each expert that has some.
struct Routes {
    experts: Vec<(usize, Vec<u32>)>,
    choices: Vec<Choice>,
    /// Of each choice, its row of results.
    places: Vec<u32>,
}

impl Routes {
    /// Every token goes to `top_k` different experts.
    fn random(shape: &Mixture, n_tokens: usize, seed: usize) -> Self {
        let mut state = seed as u64 + 1;
        let mut draw = |below: usize| {
            // The multiplier is Knuth's (MMIX).
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut tokens_of = BTreeMap::<usize, Vec<u32>>::new();
        let mut choices = Vec::new();
        for token in 0..n_tokens {
            let mut experts: Vec<usize> = (0..shape.n_experts).collect();
            for k in 0..shape.top_k {
                experts.swap(k, k + draw(shape.n_experts - k));
                tokens_of.entry(experts[k]).or_default().push(token as u32);
                choices.push(Choice { expert: experts[k] as u32, weight: 1.0 / shape.top_k as f32 });
            }
        }
        let experts: Vec<_> = tokens_of.into_iter().collect();
        let places = places(&experts, &choices, shape.top_k);
        Self { experts, choices, places }
    }
}

/// Results lie expert after expert, each one's tokens in order.
fn places(experts: &[(usize, Vec<u32>)], choices: &[Choice], top_k: usize) -> Vec<u32> {
    let mut place_of = BTreeMap::new();
    for (expert, tokens) in experts {
        for token in tokens {
            let place = place_of.len() as u32;
            place_of.insert((*token, *expert as u32), place);
        }
    }
    let place = |(i, choice): (usize, &Choice)| place_of[&((i / top_k) as u32, choice.expert)];
    choices.iter().enumerate().map(place).collect()
}

/// Activations of a step.
struct Step {
    /// [n_tokens, d_model]
    x: Vec<f32>,
    out: Vec<f32>,
    /// A row a choice: [n_tokens * top_k, d_expert] or, of the results, [n_tokens * top_k, d_model].
    gate: Vec<f32>,
    up: Vec<f32>,
    ffn: Vec<f32>,
    rows: Vec<f32>,
}

impl Step {
    fn new(shape: &Mixture, n: usize) -> Self {
        let inner = || vec![0.0; n * shape.top_k * shape.d_expert];
        let x = made_up_values(n * shape.d_model);
        let rows = vec![0.0; n * shape.top_k * shape.d_model];
        Self { out: vec![0.0; x.len()], x, gate: inner(), up: inner(), ffn: inner(), rows }
    }

    /// out <- the sum of every token's experts.
    fn run(&mut self, cpu: &mut Cpu, weights: &Weights<'_>, routes: &Routes) {
        let Self { x, out, gate, up, ffn, rows } = self;
        let Mixture { d_model, d_expert, top_k, .. } = *weights.shape;
        let (mut gates, mut ups, mut results) = (gate.as_mut_slice(), up.as_mut_slice(), rows.as_mut_slice());
        let (mut ins, mut outs, mut first) = (Vec::new(), Vec::new(), 0);
        for (expert, tokens) in &routes.experts {
            let ([gate, up, down], n) = (weights.expert(*expert), tokens.len());
            ins.push(Linear::new(gate, take(&mut gates, n * d_expert)).tokens(Tokens::List(tokens)));
            ins.push(Linear::new(up, take(&mut ups, n * d_expert)).tokens(Tokens::List(tokens)));
            let tokens = Tokens::Every { first, step: 1, n };
            outs.push(Linear::new(down, take(&mut results, n * d_model)).tokens(tokens));
            first += n;
        }
        let n_tokens = x.len() / d_model;
        cpu.linear(x, n_tokens, &mut ins);
        cpu.swiglu(ffn, gate, up);
        cpu.linear(ffn, n_tokens * top_k, &mut outs);
        drop(outs);
        out.fill(0.0);
        cpu.combine(out, d_model, rows, &routes.choices, &routes.places);
    }
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
    fn shapes_read_as_they_are_written() {
        let r1 = Mixture { d_model: 7168, d_expert: 2048, top_k: 8, n_experts: 256 };
        assert_eq!("7168x2048:8/256".parse::<Mixture>().unwrap(), r1);
        for wrong in [
            "",
            "7168x2048",
            "7168x2048:9/8",
            "7168:2048x8/256",
            "100x2048:8/256",
            "7168x2048:8/256/1",
            "0x0:1/1",
        ] {
            assert!(wrong.parse::<Mixture>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_token_goes_to_different_experts_and_finds_its_results() {
        let shape = "256x256:3/7".parse::<Mixture>().unwrap();
        let routes = Routes::random(&shape, 20, 5);
        let rows: Vec<(u32, u32)> =
            routes.experts.iter().flat_map(|(e, tokens)| tokens.iter().map(|t| (*e as u32, *t))).collect();
        assert_eq!(rows.len(), 60);
        for (i, (choice, place)) in routes.choices.iter().zip(&routes.places).enumerate() {
            assert_eq!(rows[*place as usize], (choice.expert, (i / 3) as u32));
        }
        let first: std::collections::BTreeSet<u32> =
            routes.choices[..3].iter().map(|choice| choice.expert).collect();
        assert_eq!(first.len(), 3);
    }

    #[test]
    fn a_small_layer_has_finite_sums() {
        let mut cpu = Cpu::new(kernels::CpuOptions { threads: Some(2), ..Default::default() }).unwrap();
        let shape = "256x512:2/4".parse::<Mixture>().unwrap();
        let limits = Limits { level: cpu.level(), threads: 2, read_bytes_s: 1e9, int8_ops_s: 1e9 };
        let rows = shape.measure(&mut cpu, &limits, 1).unwrap();
        assert_eq!(rows.len(), DOWN_FORMATS.len() * TOKENS.len());
    }
}
