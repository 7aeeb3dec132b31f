//! An opened card.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::Error;
use crate::adapter::{Adapter, CardKind};
use crate::pipelines::Pipelines;

/// How a card is opened.
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// Keeps to the smallest limits that WebGPU knows, as the weakest card would have them.
    pub minimum_limits: bool,
    /// Memory that may be used; `None` asks the driver and leaves a tenth.
    pub memory: Option<u64>,
    /// Computes as on a card without subgroups.
    pub no_subgroups: bool,
    /// Computes as on a card without half floats.
    pub no_f16: bool,
    /// A folder of this user's where compiled pipelines are kept between starts.
    pub pipelines: Option<PathBuf>,
}

/// What a card allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes bound at once.
    pub binding_bytes: u64,
    /// Bytes of a buffer.
    pub buffer_bytes: u64,
    /// Bytes for a model; `None` where the driver does not say.
    pub memory_bytes: Option<u64>,
}

/// An opened card.
#[derive(Debug)]
pub struct Device {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    /// Its name.
    pub name: String,
    /// Its sort.
    pub kind: CardKind,
    /// What it allows.
    pub limits: Limits,
    /// Whether threads of a subgroup can sum.
    pub subgroups: bool,
    /// It computes with half floats.
    pub f16: bool,
    /// Its memory is this machine's, and weights are written there without a detour.
    pub shares_memory: bool,
    pub(crate) pipelines: Option<Pipelines>,
    lost: Arc<OnceLock<String>>,
}

/// Bytes of immediates that the largest stage takes.
pub(crate) const IMMEDIATE_BYTES: u32 = 64;

impl Device {
    /// Opens a card.
    ///
    /// # Errors
    /// It lacks what every stage needs, or the driver refuses.
    pub fn open(adapter: &Adapter, options: DeviceOptions) -> Result<Self, Error> {
        let unfit = |reason: String| Error::Unfit { card: adapter.name.clone(), reason };
        let offered = adapter.inner.features();
        if !offered.contains(wgpu::Features::IMMEDIATES) {
            return Err(unfit("its driver offers no immediates (push constants)".into()));
        }
        let optional = wgpu::Features::SUBGROUP
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES
            | wgpu::Features::SHADER_F16
            | wgpu::Features::PIPELINE_CACHE;
        let optional = if adapter.shares_memory() {
            optional | wgpu::Features::MAPPABLE_PRIMARY_BUFFERS
        } else {
            optional
        };
        let features = wgpu::Features::IMMEDIATES | (optional & offered);
        let limits = if options.minimum_limits {
            wgpu::Limits { max_immediate_size: IMMEDIATE_BYTES, ..wgpu::Limits::default() }
        } else {
            adapter.inner.limits()
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wels"),
            required_features: features,
            required_limits: limits.clone(),
            memory_hints: wgpu::MemoryHints::Performance,
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = pollster::block_on(adapter.inner.request_device(&descriptor))
            .map_err(|error| unfit(error.to_string()))?;
        let lost = Arc::new(OnceLock::new());
        let note = Arc::clone(&lost);
        device.set_device_lost_callback(move |reason, message| {
            let _ = note.set(format!("{reason:?}: {message}"));
        });
        let note = Arc::clone(&lost);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let _ = note.set(error.to_string());
        }));
        let folder = options.pipelines.filter(|_| features.contains(wgpu::Features::PIPELINE_CACHE));
        let pipelines =
            folder.and_then(|folder| Pipelines::open(&device, &adapter.inner.get_info(), &folder));
        Ok(Self {
            name: adapter.name.clone(),
            kind: adapter.kind,
            limits: Limits {
                binding_bytes: limits.max_storage_buffer_binding_size,
                buffer_bytes: limits.max_buffer_size,
                memory_bytes: options.memory.or_else(|| adapter.memory_bytes().map(|bytes| bytes / 10 * 9)),
            },
            subgroups: features.contains(wgpu::Features::SUBGROUP) && !options.no_subgroups,
            f16: features.contains(wgpu::Features::SHADER_F16) && !options.no_f16,
            shares_memory: features.contains(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS),
            pipelines,
            device,
            queue,
            lost,
        })
    }

    /// Takes the device away, as a reset of the card would: for tests.
    pub fn lose(&self) {
        self.device.destroy();
    }

    /// # Errors
    /// The device was lost, or an error on it was noted.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.lost.get() {
            None => Ok(()),
            Some(reason) => Err(Error::Lost { reason: reason.clone() }),
        }
    }
}
