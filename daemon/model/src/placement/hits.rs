//! How many routed experts a cache would have, by the law of [`experts::replay::synthetic`].

use experts::Policy;
use experts::replay::synthetic::Law;
use experts::replay::{Choice, Setup, replay};
use weights::Moe;

/// Layers and tokens drawn: layers are alike, and more tokens change the rate by less than 1 %.
const LAYERS: u32 = 4;
const TOKENS: u32 = 2048;
/// What a law can have.
const EXPERTS_MAX: usize = experts::trace::EXPERTS_MAX as usize;

/// Share of the uses, one token a step, that a cache of `share` of the experts has, under the daemon's default policy. What
/// `wels replay --synthetic=layers=4,experts=N,top-k=K,tokens=2048 --share PERCENT` prints for it.
pub(super) fn hit_rate(moe: &Moe, share: f64) -> f64 {
    if share >= 1.0 {
        return 1.0;
    }
    let experts = moe.n_experts.min(EXPERTS_MAX);
    let all = LAYERS as usize * experts;
    let records = (share * all as f64).floor() as usize;
    if records == 0 {
        return 0.0;
    }
    let top_k = moe.top_k.min(experts) as u32;
    let law = Law { layers: LAYERS, experts: experts as u32, top_k, tokens: TOKENS, ..Law::default() };
    let choices = vec![Choice { policy: Policy::default(), pinned_share: 0.0 }];
    let setup = Setup { choices, ..Setup::new(vec![0; LAYERS as usize], vec![records]) };
    let table = replay(&law.trace(), &setup).expect("thousands of steps, and a size below the model's");
    table.rows[0].outcomes[0].decode.hit_rate().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::shape::tests::r1;
    use super::*;
    use crate::placement::Bits;

    #[test]
    fn larger_caches_hit_more_and_more_than_their_share() {
        let moe = r1(Bits::Q4KM).hyper.moe.expect("a mixture");
        let shares = [0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0];
        let rates = shares.map(|share| hit_rate(&moe, share));
        assert!(rates.is_sorted() && rates[0] == 0.0 && rates[6] == 1.0, "{rates:?}");
        assert!(shares.iter().zip(rates).skip(1).take(5).all(|(share, rate)| rate > *share), "{rates:?}");
    }
}
