//! A card, and stages on it: what the tests of twins share.

use gpu::{
    Adapter, Binding, BufferKind, CardKind, Copy, Counts, Device, DeviceOptions, Layout, Program, Recording,
    Weight,
};
use tensor::Matrix;

/// A layout and a recording under construction, with what is to be written before it runs.
pub(crate) struct Card {
    pub(crate) layout: Layout,
    pub(crate) recording: Recording,
    options: DeviceOptions,
    written: Vec<(Binding, Vec<u8>)>,
}

/// The device for tests: llvmpipe where it is there, so that they are the same everywhere.
pub(crate) fn open(options: DeviceOptions) -> Device {
    let cards = gpu::adapters();
    let software = cards.iter().position(|card| card.kind == CardKind::Software);
    let card =
        Adapter::choose(cards, software).expect("Mesa's llvmpipe: apt-get install mesa-vulkan-drivers");
    Device::open(&card, options).expect("a device")
}

impl Card {
    pub(crate) fn new() -> Self {
        Self::with(DeviceOptions::default())
    }

    pub(crate) fn with(options: DeviceOptions) -> Self {
        Self {
            layout: Layout::new(1 << 27, 1 << 28),
            recording: Recording::default(),
            options,
            written: Vec::new(),
        }
    }

    pub(crate) fn buffer(&mut self, len: usize) -> Binding {
        self.layout.buffer(BufferKind::Activations, 4 * len as u64)
    }

    pub(crate) fn floats(&mut self, values: &[f32]) -> Binding {
        self.words(&values.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
    }

    pub(crate) fn words(&mut self, values: &[u32]) -> Binding {
        let at = self.buffer(values.len());
        self.rewrite(at, values);
        at
    }

    /// Writes to a buffer that is there.
    pub(crate) fn rewrite(&mut self, at: Binding, values: &[u32]) {
        self.written.push((at, values.iter().flat_map(|x| x.to_le_bytes()).collect()));
    }

    /// Runs what was recorded; the first `len` values of `out`.
    pub(crate) fn run(
        self,
        counts: Counts,
        weights: &[(&Weight, &[Matrix<'_>])],
        out: Binding,
        len: usize,
    ) -> Vec<f32> {
        let weights: Vec<_> = weights.iter().map(|&(weight, parts)| (weight, 0, parts)).collect();
        self.run_at(counts, &weights, out, len)
    }

    /// The same, with matrices that begin at some row of their weight.
    pub(crate) fn run_at(
        self,
        counts: Counts,
        weights: &[(&Weight, usize, &[Matrix<'_>])],
        out: Binding,
        len: usize,
    ) -> Vec<f32> {
        let mut program =
            Program::new(open(self.options), &self.layout, &[self.recording]).expect("a program");
        for (weight, at, parts) in weights {
            program.upload(weight, *at, parts, &mut |_| {}).expect("uploaded");
        }
        for (at, bytes) in self.written {
            program.write(at, &bytes);
        }
        let copy = Copy { from: out, bytes: 4 * len as u64 };
        let pending = program.run(&[0], &counts, &[copy]).expect("submitted");
        let mut values = Vec::new();
        let read = |bytes: &[u8]| {
            values =
                bytes[..4 * len].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        };
        program.finish(pending, read).expect("computed");
        values
    }
}

/// Repeatable numbers within -1 and 1.
pub(crate) fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(next).collect()
}

/// `got` is `want` but for rounding: the bound grows with the sum of what was added up.
pub(crate) fn agree(what: &str, got: &[f32], want: &[f32], scale: f32) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let bound = 2e-6 * scale + 1e-5 * want.abs();
        assert!((got - want).abs() <= bound, "{what}[{i}]: {got}, want {want} within {bound}");
    }
}
