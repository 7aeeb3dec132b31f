//! A step on the card.

use std::collections::BTreeMap;

use experts::Expert;
use gpu::{Copy, Counts, Device, Program, StageTime};
use kernels::{Choice, RopeTable};
use weights::Weights;

use super::bind::{NOWHERE, Upload};
use super::bring::Bringing;
use super::buffers::{Buffers, HEAD_ROWS};
use super::ring::Ring;
use super::{CardPlan, CardShape, Handover, Route};
use crate::batch::Batch;

/// A model in a card's memory.
#[derive(Debug)]
pub(crate) struct Card {
    program: Program,
    buffers: Buffers,
    ring: Option<Ring>,
    route: Route,
    /// The tensors that lie here.
    names: Vec<String>,
    n_vocab: usize,
    n_experts: usize,
    /// Tokens of a step from which on a layer's experts come to the card.
    bring_from: usize,
    /// Layers that lie here, and whether these are all.
    layers: usize,
    is_whole: bool,
    /// Steps after which the card is taken away: for tests.
    steps_left: Option<usize>,
    /// What the processor gets and gives for a layer's experts.
    x: Vec<f32>,
    choices: Vec<Choice>,
    out: Vec<f32>,
}

/// What a card asks the processor for, of a layer's choices; those without weight do not count.
pub(crate) enum Asked<'a> {
    /// out <- the routed experts of x, both [n_tokens, d_model].
    Results {
        /// The layer's input.
        x: &'a [f32],
        /// Its output.
        out: &'a mut [f32],
    },
    /// The experts themselves, as they are ready.
    Experts {
        /// Takes one.
        each: &'a mut dyn FnMut(&Expert<'_>),
        /// Notes one that can't be had.
        failed: &'a mut Vec<u32>,
    },
}

/// Answers what a card asks of a layer, for the step's choices.
pub(crate) type Routed<'a> = dyn FnMut(usize, &[Choice], Asked<'_>) + 'a;

impl Card {
    /// Takes the card's memory and writes the weights there; `progress` is told of bytes done, of all.
    ///
    /// # Errors
    /// The card has too little memory, or was lost.
    pub(crate) fn load(
        device: Device,
        (plan, shape): (CardPlan, CardShape),
        weights: &Weights,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, gpu::Error> {
        let CardPlan { layout, uploads, buffers, ring, recordings, route } = plan;
        let mut program = Program::new(device, &layout, &recordings)?;
        let total = layout.bytes(Some(gpu::BufferKind::Slab));
        let mut done = 0;
        for upload in &uploads {
            upload.write(&mut program, weights, &mut |bytes| {
                done += bytes;
                progress(done.min(total), total);
            })?;
        }
        Ok(Self {
            program,
            buffers,
            ring,
            route,
            names: uploads.iter().flat_map(Upload::names).collect(),
            n_vocab: weights.hyper().n_vocab,
            n_experts: weights.hyper().moe.map_or(0, |moe| moe.n_experts),
            bring_from: usize::MAX,
            layers: shape.layers.min(weights.hyper().n_layers),
            is_whole: shape.is_whole(weights.hyper()),
            steps_left: None,
            x: Vec::new(),
            choices: Vec::new(),
            out: Vec::new(),
        })
    }

    /// The tensors that lie here.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The card.
    pub(crate) fn device(&self) -> &Device {
        self.program.device()
    }

    /// Takes the card away after so many steps, as a reset would: for tests.
    pub(crate) fn lose_after(&mut self, steps: usize) {
        self.steps_left = Some(steps);
    }

    /// Lets a layer's experts come to the card in steps of so many tokens and more, if they are enough for tiles.
    pub(crate) fn bring_from(&mut self, tokens: usize) {
        self.bring_from = tokens.max(self.route.many_from);
    }

    /// Tokens of a step from which on a layer's experts come to the card; `None` where they never do.
    pub(crate) fn brings_from(&self) -> Option<usize> {
        (self.bring_from != usize::MAX).then_some(self.bring_from)
    }

    /// The first layer whose experts can come.
    pub(crate) fn can_bring(&self) -> Option<Handover> {
        let mut handovers = self.route.segments.iter().filter_map(|leg| leg.handover);
        handovers.find(|handover| handover.bring.is_some())
    }

    /// Layers that lie here, from the first on, where others do not.
    pub(crate) fn part(&self) -> Option<usize> {
        (!self.is_whole).then_some(self.layers)
    }

    pub(crate) fn start_profile(&mut self) -> bool {
        self.program.start_profile()
    }

    pub(crate) fn take_profile(&mut self) -> BTreeMap<String, StageTime> {
        self.program.take_profile()
    }

    /// Runs a batch through the layers; logits [wanted.len(), n_vocab] <- the head over some rows of it, or of each row the
    /// largest alone. What the processor has to compute is asked of `routed`.
    ///
    /// # Errors
    /// The card was lost.
    pub(crate) fn step(
        &mut self,
        (batch, rope): (&Batch, &RopeTable),
        (wanted, only_best): (&[usize], bool),
        logits: &mut Vec<f32>,
        routed: &mut Routed<'_>,
    ) -> Result<(), gpu::Error> {
        logits.clear();
        let (mut run, counts) = self.layers(batch, rope, routed)?;
        let mut pieces = wanted.chunks(HEAD_ROWS);
        // The last layers and the first rows of logits in one submit: a token waits once.
        let first = pieces.next().unwrap_or_default();
        self.head(&mut run, &counts, (first, only_best), logits)?;
        pieces.try_for_each(|rows| self.head(&mut Vec::new(), &counts, (rows, only_best), logits))
    }

    /// Runs a batch through the layers that lie here: hidden [n_tokens, d_model], embedded <- the last one's output.
    ///
    /// # Errors
    /// The card was lost.
    pub(crate) fn first_layers(
        &mut self,
        (batch, rope): (&Batch, &RopeTable),
        hidden: &mut [f32],
        routed: &mut Routed<'_>,
    ) -> Result<(), gpu::Error> {
        let at = self.buffers.hidden.at;
        self.program.write(at, bytemuck::cast_slice(hidden));
        let (run, counts) = self.layers(batch, rope, routed)?;
        let copy = Copy { from: at, bytes: size_of_val(hidden) as u64 };
        let pending = self.program.run(&run, &counts, &[copy])?;
        self.program.finish(pending, |bytes| hidden.copy_from_slice(bytemuck::cast_slice(bytes)))
    }

    /// Runs all layers but the stages behind the last handover: which these are, and what there is of everything.
    fn layers(
        &mut self,
        batch: &Batch,
        rope: &RopeTable,
        routed: &mut Routed<'_>,
    ) -> Result<(Vec<usize>, Counts), gpu::Error> {
        if let Some(left) = &mut self.steps_left {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => self.program.device().lose(),
            }
        }
        let counts = self.buffers.step_layout.write(&mut self.program, self.buffers.step, batch, rope);
        let width = self.route.width(batch.len());
        let mut run = Vec::new();
        for i in 0..self.route.segments.len() {
            let leg = self.route.segments[i];
            run.push(leg.stages[width]);
            if let Some(handover) = leg.handover {
                run = vec![self.hand_over(&run, handover, &counts, routed)?];
            }
        }
        Ok((run, counts))
    }

    /// Runs stages up to the router, then has the layer's other experts computed: which recording is to follow.
    fn hand_over(
        &mut self,
        run: &[usize],
        handover: Handover,
        counts: &Counts,
        routed: &mut Routed<'_>,
    ) -> Result<usize, gpu::Error> {
        let n_tokens = counts.tokens as usize;
        let meanwhile = handover.meanwhile[self.route.width(n_tokens)];
        match handover.bring.filter(|_| n_tokens >= self.bring_from) {
            None => {
                let copies = self.buffers.handover(n_tokens);
                self.run_up_to(run, meanwhile, counts, &copies, handover.on_card)?;
                self.let_compute(handover.layer, routed);
                Ok(handover.take)
            }
            Some((halves, sum)) => {
                let copies = [self.buffers.chosen(n_tokens)];
                self.run_up_to(run, meanwhile, counts, &copies, 0)?;
                self.bring(handover, halves, counts, routed)?;
                Ok(sum)
            }
        }
    }

    /// Runs stages up to the router, brings back what is needed of them, and lets the card do something meanwhile. Choices
    /// whose experts lie on the card lose their weight.
    fn run_up_to(
        &mut self,
        run: &[usize],
        meanwhile: usize,
        counts: &Counts,
        copies: &[Copy],
        on_card: u32,
    ) -> Result<(), gpu::Error> {
        let pending = self.program.run(run, counts, copies)?;
        self.program.run(&[meanwhile], counts, &[])?;
        let Self { program, x, choices, .. } = self;
        let (_, before) = copies.split_last().expect("the choices are wanted");
        program.finish(pending, |bytes| {
            let (its_x, its_choices) =
                bytes.split_at(before.iter().map(|copy| copy.bytes).sum::<u64>() as usize);
            x.clear();
            x.extend_from_slice(bytemuck::cast_slice(its_x));
            choices.clear();
            let pairs = its_choices.chunks_exact(8).map(bytemuck::pod_read_unaligned);
            choices.extend(
                pairs.map(|[expert, bits]: [u32; 2]| Choice { expert, weight: f32::from_bits(bits) }),
            );
        })?;
        without(choices, on_card);
        Ok(())
    }

    /// Has the processor compute a layer's experts, and writes the results where the card takes them.
    fn let_compute(&mut self, layer: usize, routed: &mut Routed<'_>) {
        let Self { program, x, choices, out, .. } = self;
        out.clear();
        out.resize(x.len(), 0.0);
        routed(layer, choices, Asked::Results { x, out });
        program.write(self.buffers.routed.at, bytemuck::cast_slice(out));
    }

    /// Computes a layer's experts as they come.
    fn bring(
        &mut self,
        Handover { layer, on_card, .. }: Handover,
        halves: [usize; 2],
        counts: &Counts,
        routed: &mut Routed<'_>,
    ) -> Result<(), gpu::Error> {
        let Self { program, ring, choices, n_experts, .. } = self;
        let ring = ring.as_ref().expect("there is one where recordings use it");
        let weights = [0, 1].map(|half| ring.weights(half, layer).expect("recorded with them"));
        let all = (choices.as_slice(), *n_experts);
        let mut bringing = Bringing::new(program, ring, (weights, halves), all, *counts);
        without(choices, on_card);
        let mut failed = Vec::new();
        routed(
            layer,
            choices,
            Asked::Experts { each: &mut |expert| bringing.put(expert), failed: &mut failed },
        );
        bringing.finish()?;
        let came = |expert: &u32| *expert >= on_card && !failed.contains(expert);
        let table: Vec<u32> = (0..*n_experts as u32).map(|e| if came(&e) { 0 } else { NOWHERE }).collect();
        program.write(ring.came, bytemuck::cast_slice(&table));
        Ok(())
    }

    /// Computes one layer's experts for a made-up step, as they come: for who measures how long that takes.
    pub(crate) fn try_to_bring(
        &mut self,
        handover: Handover,
        choices: &[Choice],
        routed: &mut Routed<'_>,
    ) -> Result<(), gpu::Error> {
        let Some((halves, sum)) = handover.bring else { return Ok(()) };
        let words: Vec<u32> = choices.iter().flat_map(|c| [c.expert, c.weight.to_bits()]).collect();
        self.program.write(self.buffers.choices, bytemuck::cast_slice(&words));
        self.choices = choices.to_vec();
        let tokens = (choices.len() / self.buffers.top_k) as u32;
        let counts = Counts { tokens, ..Counts::default() };
        self.bring(handover, halves, &counts, routed)?;
        let pending = self.program.run(&[sum], &counts, &[])?;
        self.program.finish(pending, |_| {})
    }

    /// Runs what is given, then the head over some rows, and appends their logits.
    fn head(
        &mut self,
        run: &mut Vec<usize>,
        counts: &Counts,
        (rows, only_best): (&[usize], bool),
        logits: &mut Vec<f32>,
    ) -> Result<(), gpu::Error> {
        let Buffers { step, step_layout, logits: out, best, .. } = &self.buffers;
        let rows_of_words: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        self.program.write_at(*step, 4 * u64::from(step_layout.wanted), bytemuck::cast_slice(&rows_of_words));
        let counts = Counts { wanted: rows.len() as u32, ..*counts };
        run.push(self.route.head[usize::from(rows.len() > 1)]);
        let (n_vocab, stride) = (self.n_vocab, out.stride);
        if only_best {
            run.push(self.route.best);
            let copy = Copy { from: *best, bytes: (8 * rows.len()) as u64 };
            let pending = self.program.run(run, &counts, &[copy])?;
            return self.program.finish(pending, |bytes| {
                let pairs = bytes.chunks_exact(8).map(bytemuck::pod_read_unaligned);
                pairs.for_each(|pair| append_best(logits, pair, n_vocab));
            });
        }
        let copy = Copy { from: out.at, bytes: (4 * rows.len() * stride) as u64 };
        let pending = self.program.run(run, &counts, &[copy])?;
        self.program.finish(pending, |bytes| {
            for row in bytes.chunks_exact(4 * stride) {
                logits.extend_from_slice(bytemuck::cast_slice(&row[..4 * n_vocab]));
            }
        })
    }
}

/// Appends a row in which one token is likelier than all others.
fn append_best(logits: &mut Vec<f32>, [place, bits]: [u32; 2], n_vocab: usize) {
    let row = logits.len();
    logits.resize(row + n_vocab, f32::NEG_INFINITY);
    logits[row + place as usize] = f32::from_bits(bits);
}

/// Takes the weight of choices whose experts lie on the card.
fn without(choices: &mut [Choice], on_card: u32) {
    choices.iter_mut().filter(|choice| choice.expert < on_card).for_each(|choice| choice.weight = 0.0);
}
