//! A step on the card.

use std::collections::BTreeMap;

use gpu::{Copy, Counts, Device, Program, StageTime};
use kernels::{Choice, RopeTable};
use weights::Weights;

use super::buffers::{Buffers, HEAD_ROWS};
use super::{CardPlan, CardShape, Handover, Route};
use crate::batch::Batch;

/// A model in a card's memory.
#[derive(Debug)]
pub(crate) struct Card {
    program: Program,
    buffers: Buffers,
    route: Route,
    n_vocab: usize,
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

/// Computes the routed experts of a layer.
pub(crate) type Routed<'a> = dyn FnMut(usize, &[f32], &[Choice], &mut [f32]) + 'a;

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
        let CardPlan { layout, uploads, buffers, recordings, route, .. } = plan;
        let program = Program::new(device, &layout, &recordings)?;
        let total = layout.bytes(Some(gpu::BufferKind::Slab));
        let mut done = 0;
        for upload in &uploads {
            upload.write(&program, weights, &mut |bytes| {
                done += bytes;
                progress(done.min(total), total);
            })?;
        }
        Ok(Self {
            program,
            buffers,
            route,
            n_vocab: weights.hyper().n_vocab,
            layers: shape.layers.min(weights.hyper().n_layers),
            is_whole: shape.is_whole(weights.hyper()),
            steps_left: None,
            x: Vec::new(),
            choices: Vec::new(),
            out: Vec::new(),
        })
    }

    /// The card.
    pub(crate) fn device(&self) -> &Device {
        self.program.device()
    }

    /// Takes the card away after so many steps, as a reset would: for tests.
    pub(crate) fn lose_after(&mut self, steps: usize) {
        self.steps_left = Some(steps);
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

    /// Runs a batch through the layers; logits [wanted.len(), n_vocab] <- the head over some rows of it. What the processor
    /// has to compute is asked of `routed(layer, x, choices, out)`: out <- the routed experts of x, both [n_tokens, d_model].
    ///
    /// # Errors
    /// The card was lost.
    pub(crate) fn step(
        &mut self,
        (batch, rope): (&Batch, &RopeTable),
        wanted: &[usize],
        logits: &mut Vec<f32>,
        routed: &mut Routed<'_>,
    ) -> Result<(), gpu::Error> {
        logits.clear();
        let (mut run, counts) = self.layers(batch, rope, routed)?;
        let mut pieces = wanted.chunks(HEAD_ROWS);
        // The last layers and the first rows of logits in one submit: a token waits once.
        let first = pieces.next().unwrap_or_default();
        self.head(&mut run, &counts, first, logits)?;
        pieces.try_for_each(|rows| self.head(&mut Vec::new(), &counts, rows, logits))
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
        let counts = self.buffers.step_layout.write(&self.program, self.buffers.step, batch, rope);
        let many = usize::from(batch.len() > 1);
        let mut run = Vec::new();
        for i in 0..self.route.segments.len() {
            let leg = self.route.segments[i];
            run.push(leg.stages[many]);
            if let Some((handover, meanwhile)) = leg.handover {
                self.hand_over(&run, meanwhile[many], &counts, handover, routed)?;
                run.clear();
            }
        }
        Ok((run, counts))
    }

    /// Runs stages up to the router, then lets card and processor compute their experts side by side.
    fn hand_over(
        &mut self,
        run: &[usize],
        meanwhile: usize,
        counts: &Counts,
        handover: Handover,
        routed: &mut Routed<'_>,
    ) -> Result<(), gpu::Error> {
        let copies = self.buffers.handover(counts.tokens as usize);
        let pending = self.program.run(run, counts, &copies)?;
        self.program.run(&[meanwhile], counts, &[])?;
        let Self { program, x, choices, out, .. } = self;
        program.finish(pending, |bytes| {
            let (its_x, its_choices) = bytes.split_at(copies[0].bytes as usize);
            x.clear();
            x.extend_from_slice(bytemuck::cast_slice(its_x));
            choices.clear();
            let word = |b: &[u8]| u32::from_le_bytes(b.try_into().expect("four bytes"));
            choices.extend(
                its_choices.chunks_exact(8).map(|pair| Choice {
                    expert: word(&pair[..4]),
                    weight: f32::from_bits(word(&pair[4..])),
                }),
            );
        })?;
        for choice in choices.iter_mut().filter(|choice| choice.expert < handover.on_card) {
            choice.weight = 0.0;
        }
        out.clear();
        out.resize(x.len(), 0.0);
        routed(handover.layer, x, choices, out);
        program.write(self.buffers.routed.at, bytemuck::cast_slice(out));
        Ok(())
    }

    /// Runs what is given, then the head over some rows, and appends their logits.
    fn head(
        &mut self,
        run: &mut Vec<usize>,
        counts: &Counts,
        rows: &[usize],
        logits: &mut Vec<f32>,
    ) -> Result<(), gpu::Error> {
        let Buffers { step, step_layout, logits: out, .. } = &self.buffers;
        let rows_of_words: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        self.program.write_at(*step, 4 * u64::from(step_layout.wanted), bytemuck::cast_slice(&rows_of_words));
        let counts = Counts { wanted: rows.len() as u32, ..*counts };
        run.push(self.route.head[usize::from(rows.len() > 1)]);
        let stride = out.stride;
        let copy = Copy { from: out.at, bytes: (4 * rows.len() * stride) as u64 };
        let pending = self.program.run(run, &counts, &[copy])?;
        let n_vocab = self.n_vocab;
        self.program.finish(pending, |bytes| {
            for row in bytes.chunks_exact(4 * stride) {
                logits.extend_from_slice(bytemuck::cast_slice(&row[..4 * n_vocab]));
            }
        })
    }
}
