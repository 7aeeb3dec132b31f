//! Time of each stage on the card, by timestamp queries between dispatches.

use std::collections::BTreeMap;
use std::sync::mpsc;

use crate::Error;
use crate::device::Device;
use crate::program::given_up;

/// Timestamps of one submit, at most: what WebGPU allows in a set.
const QUERIES_MAX: u32 = wgpu::QUERY_SET_MAX_QUERIES;
const BYTES: u64 = 8 * QUERIES_MAX as u64;

/// Dispatches and time of one kind of stage.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StageTime {
    /// Dispatches.
    pub dispatches: u64,
    /// Seconds, over all of them.
    pub seconds: f64,
}

/// What is measured, and the sums.
#[derive(Debug)]
pub(crate) struct Profile {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
    /// Stages of the submit under way, in order.
    stages: Vec<String>,
    pub(crate) times: BTreeMap<String, StageTime>,
}

impl Profile {
    /// `None` where the card has no timestamps between dispatches.
    pub(crate) fn new(device: &Device) -> Option<Self> {
        if !device.device.features().contains(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES) {
            return None;
        }
        let buffer = |usage| {
            device.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: BYTES,
                usage,
                mapped_at_creation: false,
            })
        };
        Some(Self {
            queries: device.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("stages"),
                ty: wgpu::QueryType::Timestamp,
                count: QUERIES_MAX,
            }),
            resolved: buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            staging: buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            stages: Vec::new(),
            times: BTreeMap::new(),
        })
    }

    /// A stage begins; what is beyond the queries of a submit goes unmeasured.
    pub(crate) fn begin(&mut self, pass: &mut wgpu::ComputePass<'_>, stage: String) {
        let n = self.stages.len() as u32;
        if n + 1 < QUERIES_MAX {
            pass.write_timestamp(&self.queries, n);
            self.stages.push(stage);
        }
    }

    /// The last stage of the pass has ended.
    pub(crate) fn end_pass(&mut self, pass: &mut wgpu::ComputePass<'_>) {
        pass.write_timestamp(&self.queries, self.stages.len() as u32);
    }

    pub(crate) fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        let n = self.stages.len() as u32 + 1;
        encoder.resolve_query_set(&self.queries, 0..n, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, 8 * u64::from(n));
    }

    /// Adds the times of the submit, which has ended.
    ///
    /// # Errors
    /// The card was lost.
    pub(crate) fn collect(&mut self, device: &Device) -> Result<(), Error> {
        let (send, mapped) = mpsc::channel();
        self.staging.slice(..).map_async(wgpu::MapMode::Read, move |result| {
            let _ = send.send(result);
        });
        device.device.poll(wgpu::PollType::wait_indefinitely()).map_err(given_up)?;
        mapped.recv().map_err(given_up)?.map_err(given_up)?;
        {
            let view = self.staging.slice(..).get_mapped_range().map_err(given_up)?;
            let ticks: &[u64] = bytemuck::cast_slice(&view);
            let period_s = f64::from(device.queue.get_timestamp_period()) * 1e-9;
            for (stage, ticks) in self.stages.drain(..).zip(ticks.windows(2)) {
                let time = self.times.entry(stage).or_default();
                time.dispatches += 1;
                time.seconds += ticks[1].saturating_sub(ticks[0]) as f64 * period_s;
            }
        }
        self.staging.unmap();
        Ok(())
    }
}
