//! What the KV cache takes of the system's memory, as the system sees it. A test binary of its own: nothing else allocates.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kernels::{BLOCK_TOKENS, KvElementsMut};
use model::{KvCache, KvShape, Precision};

/// Bytes of private memory this process holds.
fn private_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn a_token_of_r1_takes_70_272_bytes_of_memory() {
    let shape = KvShape { n_layers: 61, n_kv_heads: 1, key_dim: 512 + 64, value_dim: None };
    let n_tokens = 64 * BLOCK_TOKENS;
    let before = private_bytes();
    let mut kv = KvCache::new(Precision::Fast, shape, n_tokens);
    let empty = private_bytes() - before;
    assert!(empty < 1 << 20, "an empty cache takes {empty} bytes: pages are taken as they are written");
    for layer in 0..shape.n_layers {
        let layer = kv.layer_mut(layer);
        assert!(layer.v.is_none(), "keys and values are one");
        let KvElementsMut::F16(latents) = layer.k else { panic!("the fast path keeps half floats") };
        latents.fill(half::f16::ONE);
    }
    let measured = (private_bytes() - before) as f64 / n_tokens as f64;
    // Whole pages, and what the allocator keeps beside them.
    assert!((measured / 70_272.0 - 1.0).abs() < 0.005, "{measured} bytes a token");
}
