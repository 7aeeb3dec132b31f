#![expect(unsafe_code, reason = "the driver's memory sizes are asked below wgpu, which does not tell them")]
//! The cards of this machine.

use std::sync::OnceLock;

use crate::Error;

/// What sort of device an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardKind {
    /// A card with memory of its own.
    Discrete,
    /// A part of the processor that shares its memory.
    Integrated,
    /// A program on the processor: right, but slower than our own kernels.
    Software,
    /// The driver does not say.
    Other,
}

/// A device that Vulkan offers.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub(crate) inner: wgpu::Adapter,
    /// Its name.
    pub name: String,
    /// Its driver and the driver's version.
    pub driver: String,
    /// Its sort.
    pub kind: CardKind,
}

/// The devices that Vulkan offers, in its order: `gpu:N` counts them from 0.
pub fn adapters() -> Vec<Adapter> {
    // One for the whole process: a driver that is unloaded while another thread ends the process takes it along.
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    let instance = INSTANCE.get_or_init(|| {
        wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: wgpu::Backends::VULKAN,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        })
    });
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    found.into_iter().map(Adapter::new).collect()
}

impl Adapter {
    fn new(inner: wgpu::Adapter) -> Self {
        let info = inner.get_info();
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => CardKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => CardKind::Integrated,
            wgpu::DeviceType::Cpu => CardKind::Software,
            _ => CardKind::Other,
        };
        Self { name: info.name, driver: format!("{} {}", info.driver, info.driver_info), kind, inner }
    }

    /// Whether weights can be written to its memory without a detour, for it is this machine's.
    pub fn shares_memory(&self) -> bool {
        let own_memory = matches!(self.kind, CardKind::Integrated | CardKind::Software);
        own_memory && self.inner.features().contains(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS)
    }

    /// The card of a number, or the best: with memory of its own before one that shares it, before software.
    ///
    /// # Errors
    /// There is none, or none of that number.
    pub fn choose(mut cards: Vec<Self>, number: Option<usize>) -> Result<Self, Error> {
        let n_cards = cards.len();
        if n_cards == 0 {
            return Err(Error::NoCard);
        }
        let best = || {
            let rank = |card: &Self| match card.kind {
                CardKind::Discrete => 0,
                CardKind::Integrated => 1,
                CardKind::Other => 2,
                CardKind::Software => 3,
            };
            (0..n_cards).min_by_key(|&i| rank(&cards[i])).expect("there is one")
        };
        let idx = number.unwrap_or_else(best);
        if idx >= n_cards {
            return Err(Error::NoSuchCard { wanted: idx, n_cards });
        }
        Ok(cards.swap_remove(idx))
    }

    /// Bytes of the memory that the device is closest to; `None` where the driver does not say.
    pub fn memory_bytes(&self) -> Option<u64> {
        // SAFETY: the driver's handles are used while the guard holds the adapter, and only to read properties.
        let properties = unsafe {
            let adapter = self.inner.as_hal::<wgpu::hal::api::Vulkan>()?;
            let physical = adapter.raw_physical_device();
            adapter.shared_instance().raw_instance().get_physical_device_memory_properties(physical)
        };
        let heaps = &properties.memory_heaps[..properties.memory_heap_count as usize];
        // Bit 0: memory of the device itself.
        heaps.iter().filter(|heap| heap.flags.as_raw() & 1 == 1).map(|heap| heap.size).max()
    }
}
