//! Small traces, written down or drawn.

use experts::Policy;
use experts::replay::{Choice, Setup, replay};
use experts::trace::{Header, Layer, Trace};
use proptest::prelude::*;

/// Tokens of a step, and of each visit the layer and the experts.
pub(crate) type Steps = Vec<(u32, Vec<(usize, Vec<u32>)>)>;

/// One step's visits, written down.
type Visits<'a> = &'a [(usize, &'a [u32])];

fn empty(n_layers: u32, n_experts: u32) -> Trace {
    let layers = (0..n_layers).map(|layer| Layer { layer, record_bytes: 0 }).collect();
    let (model, fingerprint) = (String::new(), String::new());
    Trace::new(Header { model, fingerprint, n_experts, top_k: 1, layers }).unwrap()
}

/// One expert a step, by number of the record.
pub(crate) fn trace(n_layers: u32, n_experts: u32, records: &[u32]) -> Trace {
    let mut trace = empty(n_layers, n_experts);
    for record in records {
        trace.visit((record / n_experts) as usize, [(record % n_experts, 1)]).unwrap();
        trace.end_step(1);
    }
    trace
}

pub(crate) fn trace_of(n_layers: u32, n_experts: u32, steps: &[(u32, Visits<'_>)]) -> Trace {
    let visits = |visits: Visits<'_>| visits.iter().map(|(l, e)| (*l, e.to_vec())).collect();
    let steps: Steps = steps.iter().map(|(n_tokens, v)| (*n_tokens, visits(v))).collect();
    trace_from(n_layers, n_experts, &steps)
}

pub(crate) fn trace_from(n_layers: u32, n_experts: u32, steps: &Steps) -> Trace {
    let mut trace = empty(n_layers, n_experts);
    for (n_tokens, visits) in steps {
        for (place, experts) in visits {
            trace.visit(*place, experts.iter().map(|&expert| (expert, 1))).unwrap();
        }
        trace.end_step(*n_tokens);
    }
    trace
}

/// Two layers of four experts, steps of both kinds.
pub(crate) fn steps() -> impl Strategy<Value = Steps> {
    let experts = prop::collection::btree_set(0_u32..4, 0..4).prop_map(|set| set.into_iter().collect());
    let visit = (0_usize..2, experts);
    let step = (prop_oneof![3 => Just(1_u32), 1 => Just(100)], prop::collection::vec(visit, 1..3));
    prop::collection::vec(step, 2..24)
}

pub(crate) fn lfru(half_life: f64) -> Policy {
    Policy::Lfru { half_life }
}

pub(crate) fn choice(policy: Policy) -> Choice {
    Choice { policy, pinned_share: 0.0 }
}

/// Hits and uses of the decode steps that count.
pub(crate) fn hits(trace: &Trace, records: usize, choice: Choice) -> (u64, u64) {
    let n_layers = trace.header().layers.len();
    let setup = Setup { choices: vec![choice], ..Setup::new(vec![0; n_layers], vec![records]) };
    let counts = replay(trace, &setup).unwrap().rows[0].outcomes[0].decode;
    (counts.uses - counts.misses, counts.uses)
}
