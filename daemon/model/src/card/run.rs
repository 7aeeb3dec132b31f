//! A step on the card.

use std::collections::BTreeMap;

use gpu::{Copy, Counts, Device, Program, StageTime};
use kernels::RopeTable;
use weights::Weights;

use super::buffers::{Buffers, HEAD_ROWS};
use super::{CardPlan, HEAD, LAYERS};
use crate::batch::Batch;

/// A model in a card's memory.
#[derive(Debug)]
pub(crate) struct Card {
    program: Program,
    buffers: Buffers,
    n_vocab: usize,
}

impl Card {
    /// Takes the card's memory and writes the weights there; `progress` is told of bytes done, of all.
    ///
    /// # Errors
    /// The card has too little memory, or was lost.
    pub(crate) fn load(
        device: Device,
        plan: CardPlan,
        weights: &Weights,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, gpu::Error> {
        let CardPlan { layout, uploads, buffers, recordings } = plan;
        let program = Program::new(device, &layout, &recordings)?;
        let total = layout.bytes(Some(gpu::BufferKind::Slab));
        let mut done = 0;
        for upload in &uploads {
            upload.write(&program, weights, &mut |bytes| {
                done += bytes;
                progress(done.min(total), total);
            })?;
        }
        Ok(Self { program, buffers, n_vocab: weights.hyper().n_vocab })
    }

    /// The card.
    pub(crate) fn device(&self) -> &Device {
        self.program.device()
    }

    pub(crate) fn start_profile(&mut self) -> bool {
        self.program.start_profile()
    }

    pub(crate) fn take_profile(&mut self) -> BTreeMap<String, StageTime> {
        self.program.take_profile()
    }

    /// Runs a batch through the layers; logits [wanted.len(), n_vocab] <- the head over some rows of it.
    ///
    /// # Errors
    /// The card was lost.
    pub(crate) fn step(
        &mut self,
        batch: &Batch,
        rope: &RopeTable,
        wanted: &[usize],
        logits: &mut Vec<f32>,
    ) -> Result<(), gpu::Error> {
        logits.clear();
        let counts = self.buffers.step_layout.write(&self.program, self.buffers.step, batch, rope);
        let mut pieces = wanted.chunks(HEAD_ROWS);
        // The layers and the first rows of logits in one submit: a token waits once.
        let mut run = vec![LAYERS[usize::from(batch.len() > 1)]];
        let first = pieces.next().unwrap_or_default();
        self.head(&mut run, &counts, first, logits)?;
        pieces.try_for_each(|rows| self.head(&mut Vec::new(), &counts, rows, logits))
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
        run.push(HEAD[usize::from(rows.len() > 1)]);
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
