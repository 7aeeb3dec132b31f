//! A layer's experts, brought to the card for a prompt.

use experts::Expert;
use gpu::{Counts, Pending, Program};
use kernels::Choice;
use shaders::TILE_TOKENS;

use super::bind::NOWHERE;
use super::ring::{HalfWeights, Ring};

/// Puts experts into the halves of the ring in turn, and lets the card compute those of a half when it is full.
pub(crate) struct Bringing<'a> {
    program: &'a mut Program,
    ring: &'a Ring,
    weights: [HalfWeights; 2],
    recordings: [usize; 2],
    counts: Counts,
    /// Of each expert, the place of its first choice where choices are sorted by expert; one more than experts.
    first: Vec<u32>,
    /// The half that is being filled: its slots by expert, and its tiles.
    half: usize,
    used: usize,
    table: Vec<u32>,
    tiles: Vec<[u32; 4]>,
    /// What the card still computes of each half.
    in_flight: [Option<Pending>; 2],
    result: Result<(), gpu::Error>,
}

impl<'a> Bringing<'a> {
    /// Begins with choices of all experts, those that lie on the card too.
    pub(crate) fn new(
        program: &'a mut Program,
        ring: &'a Ring,
        (weights, recordings): ([HalfWeights; 2], [usize; 2]),
        (choices, n_experts): (&[Choice], usize),
        counts: Counts,
    ) -> Self {
        let mut first = vec![0; n_experts + 1];
        choices.iter().for_each(|choice| first[choice.expert as usize + 1] += 1);
        (0..n_experts).for_each(|e| first[e + 1] += first[e]);
        Self {
            program,
            ring,
            weights,
            recordings,
            counts,
            first,
            half: 0,
            used: 0,
            table: vec![NOWHERE; n_experts],
            tiles: Vec::new(),
            in_flight: [None, None],
            result: Ok(()),
        }
    }

    /// Takes an expert. After an error nothing more is done.
    pub(crate) fn put(&mut self, expert: &Expert<'_>) {
        if self.result.is_ok() {
            self.result = self.write(expert);
        }
    }

    /// Computes what is left, without waiting for it.
    pub(crate) fn finish(mut self) -> Result<(), gpu::Error> {
        std::mem::replace(&mut self.result, Ok(()))?;
        self.compute()
    }

    fn write(&mut self, expert: &Expert<'_>) -> Result<(), gpu::Error> {
        if let Some(pending) = self.in_flight[self.half].take() {
            self.program.finish(pending, |_| {})?;
        }
        let HalfWeights { gate_up, down } = &self.weights[self.half];
        let (rows, slot) = (expert.gate.rows(), self.used);
        let places = [
            (gate_up, 2 * slot * rows, expert.gate),
            (gate_up, (2 * slot + 1) * rows, expert.up),
            (down, slot * expert.down.rows(), expert.down),
        ];
        for (weight, at, matrix) in places {
            self.program.write_rows(weight, at, &[matrix], &mut |_, _| Ok(()))?;
        }
        let idx = expert.key.expert as usize;
        self.table[idx] = slot as u32;
        let its = self.first[idx]..self.first[idx + 1];
        let tiles = its.clone().step_by(TILE_TOKENS as usize);
        self.tiles.extend(tiles.map(|at| [idx as u32, at, TILE_TOKENS.min(its.end - at), 0]));
        self.used += 1;
        if self.used == self.ring.slots { self.compute() } else { Ok(()) }
    }

    /// Computes the half's experts, and goes on to the other half.
    fn compute(&mut self) -> Result<(), gpu::Error> {
        if self.used == 0 {
            return Ok(());
        }
        let half = &self.ring.halves[self.half];
        self.program.write(half.table, bytemuck::cast_slice(&self.table));
        self.program.write(half.tiles, bytemuck::cast_slice(&self.tiles));
        let counts = Counts { expert_tiles: self.tiles.len() as u32, ..self.counts };
        self.in_flight[self.half] = Some(self.program.run(&[self.recordings[self.half]], &counts, &[])?);
        self.half = 1 - self.half;
        self.used = 0;
        self.table.fill(NOWHERE);
        self.tiles.clear();
        Ok(())
    }
}
