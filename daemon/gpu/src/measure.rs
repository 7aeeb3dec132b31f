//! How fast a card is with the stages that most of a model's time goes to.

use std::time::Instant;

use shaders::{TILE_TOKENS, Threads};
use tensor::{DType, Layout as MatrixLayout, Matrix};

use crate::device::Device;
use crate::layout::{BufferKind, Layout, WeightShape};
use crate::program::Program;
use crate::recording::{Counts, Recording};
use crate::stages::{self, Linear, Quantised, Rows};
use crate::{CardKind, Error};

/// What stages reach on a card.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Bytes of weights that a single token reads in a second.
    pub read_bytes_s: f64,
    /// Operations of a prompt in a second, two for a multiply-add.
    pub ops_s: f64,
    /// Bytes that reach the card in a second, from memory.
    pub link_bytes_s: f64,
}

/// What is measured with: a matrix in the commonest format.
const DTYPE: DType = DType::Q4K;
const COLS: usize = 4096;
/// Tokens of the prompt.
const TOKENS: usize = 256;
/// Times that each is measured: the shortest counts.
const ROUNDS: usize = 3;

/// Measures with a matrix of so many bytes: more than a card's caches hold, 256 MiB or so.
///
/// # Errors
/// The card has too little memory for it, or was lost.
pub fn measure(device: Device, bytes: u64) -> Result<Speed, Error> {
    let row_bytes = DTYPE.bytes_for(COLS).expect("whole blocks");
    let rows = (bytes.min(device.limits.binding_bytes) as usize / row_bytes / 128 * 128).max(128);
    let mut layout = Layout::new(device.limits.binding_bytes, device.limits.buffer_bytes);
    let weight = layout.weight(WeightShape { dtype: DTYPE, rows, cols: COLS, parts: 1 });
    let mut buffer = |values: usize| layout.buffer(BufferKind::Activations, 4 * values as u64);
    let (x, out) = (Rows::new(buffer(TOKENS * COLS), COLS), Rows::new(buffer(TOKENS * rows), rows));
    let quantised =
        Quantised { codes: buffer(TOKENS * COLS / 4), factors: buffer(TOKENS * COLS / 8), f16: false };
    let splits = if device.kind == CardKind::Software { 1 } else { 4 };
    let job = Linear::new(&weight, Threads { quads: 8, splits });
    let mut recordings = [Recording::default(), Recording::default()];
    stages::linear(&mut recordings[0], job, x, out);
    stages::linear(
        &mut recordings[1],
        Linear { tokens: TILE_TOKENS, quantised: Some(quantised), ..job },
        x,
        out,
    );
    let mut program = Program::new(device, &layout, &recordings)?;
    let zeros = vec![0; rows * row_bytes];
    let matrix = Matrix::new(DTYPE, rows, COLS, &zeros).expect("as many bytes as rows");
    let matrix = matrix.with_layout(MatrixLayout::Rows16).expect("whole sixteens");
    let upload = shortest(|| {
        program.write_rows(&weight, 0, &[matrix], &mut |_, _| Ok(()))?;
        program.wait()
    })?;
    let one = shortest(|| step(&mut program, 0, 1))?;
    let many = shortest(|| step(&mut program, 1, TOKENS))?;
    Ok(Speed {
        read_bytes_s: weight.bytes() as f64 / one,
        ops_s: 2.0 * (rows * COLS * TOKENS) as f64 / many,
        link_bytes_s: weight.bytes() as f64 / upload,
    })
}

fn step(program: &mut Program, recording: usize, tokens: usize) -> Result<(), Error> {
    let counts = Counts { tokens: tokens as u32, ..Counts::default() };
    let pending = program.run(&[recording], &counts, &[])?;
    program.finish(pending, |_| {})
}

/// Seconds, of a few rounds behind one that counts for nothing.
fn shortest(mut what: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    what()?;
    let mut shortest = f64::MAX;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        what()?;
        shortest = shortest.min(begun.elapsed().as_secs_f64());
    }
    Ok(shortest)
}
