//! A layout in a card's memory, and recordings made ready to run there.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc;

use shaders::{Access, Shader};
use tensor::{LANES, Matrix, SCALE_BLOCK};

use crate::Error;
use crate::device::{Device, IMMEDIATE_BYTES};
use crate::layout::{Binding, BufferKind, Layout, Shard, Weight};
use crate::pipelines::Pipelines;
use crate::profile::{Profile, StageTime};
use crate::recording::{Counts, Extent, Recording, Word};
use crate::upload;

/// Bytes of weights on their way: staging memory that a load takes.
const UPLOAD_BYTES: usize = 16 << 20;
/// Readbacks in flight: one is read while the next is computed.
const STAGINGS: usize = 2;

/// What is brought back from the card.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    /// From where.
    pub from: Binding,
    /// How much of it, from its beginning.
    pub bytes: u64,
}

/// A stage with its pipeline and bindings.
#[derive(Debug)]
struct Ready {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    words: Vec<Word>,
    grid: [Extent; 3],
    shader: Shader,
}

/// A card's memory for a model, and what is computed there.
#[derive(Debug)]
pub struct Program {
    device: Device,
    buffers: Vec<wgpu::Buffer>,
    /// Of each buffer its bytes, as long as it is written in place: slabs of a card that shares this machine's memory, until
    /// something is run.
    in_place: Vec<Option<wgpu::BufferViewMut>>,
    recordings: Vec<Vec<Ready>>,
    staging: [Option<wgpu::Buffer>; STAGINGS],
    next_staging: usize,
    profile: Option<Profile>,
}

/// Work under way, and what it will bring back.
#[derive(Debug)]
pub struct Pending {
    submission: wgpu::SubmissionIndex,
    staging: Option<Staged>,
}

/// Bytes of a staging buffer, and the word that they can be read.
#[derive(Debug)]
struct Staged {
    buffer: wgpu::Buffer,
    bytes: u64,
    mapped: mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Program {
    /// Takes the memory of a layout and builds what the recordings need.
    ///
    /// # Errors
    /// The card has too little memory, or refuses.
    pub fn new(device: Device, layout: &Layout, recordings: &[Recording]) -> Result<Self, Error> {
        fits(&device, layout)?;
        let buffers: Vec<wgpu::Buffer> =
            layout.buffers.iter().map(|&(kind, bytes)| buffer(&device, kind, bytes)).collect();
        device.check()?;
        let views = buffers.iter().zip(&layout.buffers).map(|(buffer, (kind, _))| {
            is_in_place(&device, *kind).then(|| buffer.get_mapped_range_mut(..)).transpose().map_err(given_up)
        });
        let in_place = views.collect::<Result<_, Error>>()?;
        let mut builder =
            Builder { device: &device, buffers: &buffers, pipelines: HashMap::new(), groups: HashMap::new() };
        let recordings = recordings.iter().map(|recording| builder.ready(recording)).collect();
        device.check()?;
        device.pipelines.iter().for_each(Pipelines::keep);
        let staging = [None, None];
        Ok(Self { device, buffers, in_place, recordings, staging, next_staging: 0, profile: None })
    }

    /// The card.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Measures every stage from here on; false where the card can't. It costs a wait a submit.
    pub fn start_profile(&mut self) -> bool {
        self.profile = Profile::new(&self.device);
        self.profile.is_some()
    }

    /// Times of each kind of stage since the start; nothing where it was not started.
    pub fn take_profile(&mut self) -> BTreeMap<String, StageTime> {
        self.profile.take().map_or_else(BTreeMap::new, |profile| profile.times)
    }

    /// Writes matrices to a weight's place, from row `at` on, a piece at a time, and waits for it; `progress` is told of every
    /// piece's bytes.
    ///
    /// # Errors
    /// The card was lost.
    ///
    /// # Panics
    /// `at` is no whole sixteen, or the rows are more than the weight has: a programmer's error.
    pub fn upload(
        &mut self,
        weight: &Weight,
        at: usize,
        parts: &[Matrix<'_>],
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        self.write_rows(weight, at, parts, &mut |program, bytes| {
            progress(bytes);
            // What is on its way to a card of its own takes memory here until it has arrived.
            if program.in_place.iter().any(Option::is_some) { Ok(()) } else { program.wait() }
        })?;
        self.device.check()
    }

    /// Writes matrices to a weight's place, from row `at` on, before what is run next; `piece` is told of every piece's bytes.
    ///
    /// # Errors
    /// Those of `piece`.
    ///
    /// # Panics
    /// `at` is no whole sixteen, or the rows are more than the weight has: a programmer's error.
    pub fn write_rows(
        &mut self,
        weight: &Weight,
        at: usize,
        parts: &[Matrix<'_>],
        piece: &mut dyn FnMut(&Self, u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let row_block = parts.len() * weight.format.row_block_bytes(weight.shape.cols);
        let rows_a_piece = (UPLOAD_BYTES / row_block).max(1) * LANES;
        let (rows, mut first) = (parts[0].rows(), 0);
        while first < rows {
            let holds =
                |shard: &&Shard| (shard.first_row..shard.first_row + shard.rows).contains(&(at + first));
            let shard = weight.shards.iter().find(holds).expect("the weight has such a row");
            let in_shard = at + first - shard.first_row;
            let n = rows_a_piece.min(shard.rows - in_shard).min(rows - first);
            let bytes = upload::interleave(weight.format, parts, first, n);
            self.write_at(shard.weights, (in_shard / LANES * row_block) as u64, &bytes);
            piece(self, bytes.len() as u64)?;
            first += n;
        }
        if let Some(scales) = weight.shards.first().and_then(|shard| shard.scales) {
            let row = 4 * parts.len() * weight.shape.cols.div_ceil(SCALE_BLOCK);
            self.write_at(scales, (at / SCALE_BLOCK * row) as u64, &upload::scales(parts));
        }
        Ok(())
    }

    /// Writes bytes to the beginning of a binding, before what is run next.
    pub fn write(&mut self, to: Binding, bytes: &[u8]) {
        self.write_at(to, 0, bytes);
    }

    /// Writes bytes from byte `at` of a binding on, before what is run next.
    pub fn write_at(&mut self, to: Binding, at: u64, bytes: &[u8]) {
        assert!(at + bytes.len() as u64 <= to.bytes, "the bytes fit");
        let offset = to.offset + at;
        match &mut self.in_place[to.buffer] {
            Some(view) => view.slice(offset as usize..offset as usize + bytes.len()).copy_from_slice(bytes),
            None => self.device.queue.write_buffer(&self.buffers[to.buffer], offset, bytes),
        }
    }

    /// Hands buffers that were written in place to the card.
    fn seal(&mut self) {
        for (view, buffer) in self.in_place.iter_mut().zip(&self.buffers) {
            if view.take().is_some() {
                buffer.unmap();
            }
        }
    }

    /// Lets the card take what was written, and waits for it: staging memory does not grow.
    ///
    /// # Errors
    /// The card was lost.
    pub fn wait(&self) -> Result<(), Error> {
        let submission = self.device.queue.submit([]);
        self.wait_for(submission)
    }

    /// Runs recordings one after another, in one submit, then copies from the card; returns at once.
    ///
    /// # Errors
    /// The card was lost.
    pub fn run(&mut self, recordings: &[usize], counts: &Counts, copies: &[Copy]) -> Result<Pending, Error> {
        self.device.check()?;
        self.seal();
        let mut encoder =
            self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.encode(&mut encoder, recordings, counts);
        let staging = self.copy(&mut encoder, copies);
        if let Some(profile) = &self.profile {
            profile.resolve(&mut encoder);
        }
        let submission = self.device.queue.submit([encoder.finish()]);
        if let Some(profile) = &mut self.profile {
            profile.collect(&self.device)?;
        }
        let staging = staging.map(|(buffer, bytes)| {
            let (send, mapped) = mpsc::channel();
            buffer.slice(..bytes).map_async(wgpu::MapMode::Read, move |result| {
                let _ = send.send(result);
            });
            Staged { buffer, bytes, mapped }
        });
        Ok(Pending { submission, staging })
    }

    fn encode(&mut self, encoder: &mut wgpu::CommandEncoder, recordings: &[usize], counts: &Counts) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for stage in recordings.iter().flat_map(|&recording| &self.recordings[recording]) {
            let [x, y, z] = counts.grid(stage.grid);
            if x * y * z == 0 {
                continue;
            }
            if let Some(profile) = &mut self.profile {
                profile.begin(&mut pass, stage.shader.label());
            }
            pass.set_pipeline(&stage.pipeline);
            pass.set_bind_group(0, &stage.bindings, &[]);
            pass.set_immediates(0, &counts.bytes_of(&stage.words));
            pass.dispatch_workgroups(x, y, z);
        }
        if let Some(profile) = &mut self.profile {
            profile.end_pass(&mut pass);
        }
    }

    fn copy(&mut self, encoder: &mut wgpu::CommandEncoder, copies: &[Copy]) -> Option<(wgpu::Buffer, u64)> {
        let bytes: u64 = copies.iter().map(|copy| copy.bytes).sum();
        if bytes == 0 {
            return None;
        }
        let slot = &mut self.staging[self.next_staging];
        self.next_staging = (self.next_staging + 1) % STAGINGS;
        if slot.as_ref().is_none_or(|staging| staging.size() < bytes) {
            *slot = Some(self.device.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("staging"),
                size: bytes.next_power_of_two(),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }));
        }
        let staging = slot.clone().expect("made above");
        let mut at = 0;
        for &Copy { from, bytes } in copies {
            encoder.copy_buffer_to_buffer(&self.buffers[from.buffer], from.offset, &staging, at, bytes);
            at += bytes;
        }
        Some((staging, at))
    }

    /// Waits for what [`run`](Self::run) began; `read` gets what it copied, one after another.
    ///
    /// # Errors
    /// The card was lost.
    pub fn finish(&self, pending: Pending, read: impl FnOnce(&[u8])) -> Result<(), Error> {
        self.wait_for(pending.submission)?;
        let Some(Staged { buffer, bytes, mapped }) = pending.staging else { return Ok(()) };
        match mapped.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(given_up(error)),
            Err(error) => return Err(given_up(error)),
        }
        {
            let view = buffer.slice(..bytes).get_mapped_range().map_err(given_up)?;
            read(&view);
        }
        buffer.unmap();
        Ok(())
    }

    fn wait_for(&self, submission: wgpu::SubmissionIndex) -> Result<(), Error> {
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
        let polled = self.device.device.poll(wait);
        self.device.check()?;
        polled.map(|_| ()).map_err(given_up)
    }
}

/// The driver gave no reason of its own: what was noticed goes to the log.
pub(crate) fn given_up(noticed: impl std::fmt::Display) -> Error {
    tracing::warn!(%noticed, "a graphics card does not answer");
    Error::Lost { reason: "its driver has given it up".into() }
}

/// Weights of a card that shares this machine's memory are written where they will lie.
fn is_in_place(device: &Device, kind: BufferKind) -> bool {
    device.shares_memory && kind == BufferKind::Slab
}

const MB: u64 = 1_000_000;

fn fits(device: &Device, layout: &Layout) -> Result<(), Error> {
    let needs = layout.bytes(None);
    if let Some(has) = device.limits.memory_bytes.filter(|&has| needs > has) {
        return Err(Error::TooSmall { card: device.name.clone(), has: has / MB, needs: needs.div_ceil(MB) });
    }
    let (largest, limit) = (layout.largest_bound(), device.limits.binding_bytes);
    if largest > limit {
        let what = "the memory of a conversation (--context) or of a step's activations".into();
        return Err(Error::TooLarge {
            card: device.name.clone(),
            what,
            limit: limit / MB,
            needs: largest.div_ceil(MB),
        });
    }
    Ok(())
}

fn buffer(device: &Device, kind: BufferKind, bytes: u64) -> wgpu::Buffer {
    let in_place = is_in_place(device, kind);
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    device.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(match kind {
            BufferKind::Slab => "weights",
            BufferKind::Kv => "kv",
            BufferKind::Activations => "activations",
            BufferKind::Ring => "ring",
        }),
        size: bytes,
        usage: if in_place { usage | wgpu::BufferUsages::MAP_WRITE } else { usage },
        mapped_at_creation: in_place,
    })
}

/// Makes stages ready; equal pipelines and equal bindings are made once.
struct Builder<'a> {
    device: &'a Device,
    buffers: &'a [wgpu::Buffer],
    pipelines: HashMap<Shader, (wgpu::ComputePipeline, wgpu::BindGroupLayout)>,
    groups: HashMap<(&'static [Access], Vec<Binding>), wgpu::BindGroup>,
}

impl Builder<'_> {
    fn ready(&mut self, recording: &Recording) -> Vec<Ready> {
        let ready = |stage: &crate::Stage| {
            let (pipeline, layout) = self.pipeline(stage.shader);
            let bindings = self.group(stage.shader.bindings(), &stage.bindings, &layout);
            Ready { pipeline, bindings, words: stage.words.clone(), grid: stage.grid, shader: stage.shader }
        };
        recording.stages.iter().map(ready).collect()
    }

    fn pipeline(&mut self, shader: Shader) -> (wgpu::ComputePipeline, wgpu::BindGroupLayout) {
        let device = self.device;
        self.pipelines.entry(shader).or_insert_with(|| build(device, shader)).clone()
    }

    fn group(
        &mut self,
        accesses: &'static [Access],
        bindings: &[Binding],
        layout: &wgpu::BindGroupLayout,
    ) -> wgpu::BindGroup {
        let Self { device, buffers, groups, .. } = self;
        let make = || {
            let entry = |(i, binding): (usize, &Binding)| wgpu::BindGroupEntry {
                binding: i as u32,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &buffers[binding.buffer],
                    offset: binding.offset,
                    size: std::num::NonZeroU64::new(binding.bytes),
                }),
            };
            let entries: Vec<_> = bindings.iter().enumerate().map(entry).collect();
            device.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout,
                entries: &entries,
            })
        };
        groups.entry((accesses, bindings.to_vec())).or_insert_with(make).clone()
    }
}

fn build(card: &Device, shader: Shader) -> (wgpu::ComputePipeline, wgpu::BindGroupLayout) {
    let device = &card.device;
    let label = Some(shader.stage());
    let source = wgpu::ShaderSource::Wgsl(shader.source().into());
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label, source });
    let entry = |(i, access): (usize, &Access)| wgpu::BindGroupLayoutEntry {
        binding: i as u32,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only: *access == Access::Read },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    };
    let entries: Vec<_> = shader.bindings().iter().enumerate().map(entry).collect();
    let group =
        device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(&group)],
        immediate_size: IMMEDIATE_BYTES,
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label,
        layout: Some(&layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false,
            ..wgpu::PipelineCompilationOptions::default()
        },
        cache: card.pipelines.as_ref().map(Pipelines::cache),
    });
    (pipeline, group)
}
