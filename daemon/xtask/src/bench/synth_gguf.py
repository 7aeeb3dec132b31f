#!/usr/bin/env python3
"""Make synthetic GGUF models with exact real shapes and random, finite quantised blocks.

No weights are downloaded: every quantised block is random, with scales chosen so that a
matrix with fan-in n behaves like a N(0, 1/n) matrix (activations stay finite and the
router spreads tokens over the experts). Speed, file size, memory and I/O behaviour are
those of the real model in that quantisation; the text it writes is noise.

  python synth_gguf.py v2lite   OUT.gguf                 # Q4_K_M-like mix
  python synth_gguf.py r1slice  OUT.gguf --quant iq4_xs  # pure IQ4_XS, Q6_K output
  python synth_gguf.py r1slice  OUT.gguf --moe-layers 1 --experts 64
  python synth_gguf.py r1slice  --dense 3 --layers 61 --dry   # bytes of the whole R1

Prints total bytes and the bytes a single decoded token has to read ("active bytes").
Needs: numpy, gguf (PyPI).
"""
import argparse, json, sys
import numpy as np
import gguf
from gguf import GGMLQuantizationType as T, GGUFWriter

# ----------------------------------------------------------------------------- shapes
SHAPES = {
    # DeepSeek-V2-Lite
    "v2lite": dict(arch="deepseek2", layers=27, dense=1, d=2048, heads=16, q_lora=0, kv_lora=512,
                   rope=64, nope=128, v=128, ff=10944, experts=64, used=6, shared=2, moe_ff=1408,
                   vocab=102400, gating=1, wscale=1.0, wnorm=False, groups=0, ctx=163840,
                   yarn=(40.0, 4096, 0.0707)),
    # DeepSeek-V3 / R1, exact layer shapes, few layers
    "r1slice": dict(arch="deepseek2", layers=3, dense=1, d=7168, heads=128, q_lora=1536, kv_lora=512,
                    rope=64, nope=128, v=128, ff=18432, experts=256, used=8, shared=1, moe_ff=2048,
                    vocab=129280, gating=2, wscale=2.5, wnorm=True, groups=8, groups_used=4, ctx=163840,
                    yarn=(40.0, 4096, 0.1)),
    # R1-Distill dense models
    "qwen1.5b": dict(arch="qwen2", layers=28, d=1536, heads=12, kv=2, ff=8960, vocab=151936, ctx=131072, base=10000.0),
    "qwen7b": dict(arch="qwen2", layers=28, d=3584, heads=28, kv=4, ff=18944, vocab=152064, ctx=131072, base=10000.0),
    "qwen14b": dict(arch="qwen2", layers=48, d=5120, heads=40, kv=8, ff=13824, vocab=152064, ctx=131072, base=1000000.0),
    "llama8b": dict(arch="llama", layers=32, d=4096, heads=32, kv=8, ff=14336, vocab=128256, ctx=131072, base=500000.0),
}

# ----------------------------------------------------------------------------- random blocks
BLK = {  # type: (values per block, bytes per block)
    T.Q4_0: (32, 18), T.Q5_0: (32, 22), T.Q8_0: (32, 34), T.Q2_K: (256, 84), T.Q3_K: (256, 110),
    T.Q4_K: (256, 144), T.Q5_K: (256, 176), T.Q6_K: (256, 210), T.IQ4_XS: (256, 136),
    T.IQ2_XXS: (256, 66), T.IQ1_S: (256, 50), T.BF16: (1, 2), T.F16: (1, 2), T.F32: (1, 4),
}


def gauss_codes(rng, n, levels, spread=4.5):
    """integer codes 0..levels-1 with the bell-shaped histogram real weights have; returns codes and their std"""
    c = np.clip(np.rint(rng.standard_normal(n, dtype=np.float32) * (levels / spread) + (levels - 1) / 2), 0, levels - 1)
    return c.astype(np.uint8), float(c.std())


def f16bytes(x):
    return np.asarray(x, dtype=np.float16).view(np.uint8).reshape(-1, 2)


def kscales(sc):
    """pack 8 six-bit scales (min = same code) the Q4_K/Q5_K way -> (n,12)"""
    n = sc.shape[0]
    out = np.zeros((n, 12), np.uint8)
    out[:, 0:4] = (sc[:, 0:4] & 63) | ((sc[:, 4:8] >> 4) << 6)
    out[:, 4:8] = (sc[:, 0:4] & 63) | ((sc[:, 4:8] >> 4) << 6)
    out[:, 8:12] = (sc[:, 4:8] & 15) | ((sc[:, 4:8] & 15) << 4)
    return out


def make_blocks(rng, t, n, std):
    """n random blocks of type t whose dequantised values have mean ~0 and standard deviation std"""
    vals, size = BLK[t]
    jit = rng.uniform(0.8, 1.25, n).astype(np.float32)  # block-to-block scale spread
    if t in (T.F32, T.F16, T.BF16):
        x = (rng.standard_normal(n, dtype=np.float32) * std)
        if t == T.F32: return x.view(np.uint8).reshape(n, 4)
        if t == T.F16: return x.astype(np.float16).view(np.uint8).reshape(n, 2)
        return (x.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).reshape(n, 2)
    b = np.empty((n, size), np.uint8)
    if t == T.Q8_0:
        q = np.clip(np.rint(rng.standard_normal((n, 32), dtype=np.float32) * 48), -127, 127)
        b[:, :2] = f16bytes(jit * std / q.std()); b[:, 2:] = q.astype(np.int8).view(np.uint8)
    elif t == T.Q4_0:
        q, s = gauss_codes(rng, n * 32, 16); q = q.reshape(n, 2, 16)
        b[:, :2] = f16bytes(jit * std / s); b[:, 2:] = q[:, 0] | (q[:, 1] << 4)
    elif t == T.Q5_0:
        q, s = gauss_codes(rng, n * 32, 32); q = q.reshape(n, 2, 16)
        hi = np.packbits((q.reshape(n, 32) >> 4).astype(np.uint8), axis=1, bitorder="little")
        b[:, :2] = f16bytes(jit * std / s); b[:, 2:6] = hi; b[:, 6:] = (q[:, 0] & 15) | ((q[:, 1] & 15) << 4)
    elif t in (T.Q4_K, T.Q5_K):
        lv = 16 if t == T.Q4_K else 32
        q, s = gauss_codes(rng, n * 256, lv); q = q.reshape(n, 4, 2, 32)
        sc = rng.integers(28, 64, (n, 8)).astype(np.uint8)
        d = jit * std / (s * 46.0)
        b[:, 0:2] = f16bytes(d); b[:, 2:4] = f16bytes(d * (lv - 1) / 2); b[:, 4:16] = kscales(sc)
        if t == T.Q4_K:
            b[:, 16:] = (q[:, :, 0] | (q[:, :, 1] << 4)).reshape(n, 128)
        else:
            h = (q >> 4) & 1
            b[:, 16:48] = sum(h[:, j, k] << (2 * j + k) for j in range(4) for k in range(2))
            b[:, 48:] = ((q[:, :, 0] & 15) | ((q[:, :, 1] & 15) << 4)).reshape(n, 128)
    elif t == T.Q6_K:
        q, s = gauss_codes(rng, n * 256, 64); q = q.reshape(n, 2, 4, 32)
        b[:, :64] = (q[:, 0, 0:2] & 15).reshape(n, 64) | ((q[:, 0, 2:4] & 15) << 4).reshape(n, 64)
        b[:, 64:128] = (q[:, 1, 0:2] & 15).reshape(n, 64) | ((q[:, 1, 2:4] & 15) << 4).reshape(n, 64)
        for h in range(2):
            b[:, 128 + 32 * h:160 + 32 * h] = sum((q[:, h, k] >> 4) << (2 * k) for k in range(4))
        sg = rng.integers(0, 2, (n, 16)) * 2 - 1
        b[:, 192:208] = (rng.integers(60, 128, (n, 16)) * sg).astype(np.int8).view(np.uint8)
        b[:, 208:] = f16bytes(jit * std / (s * 95.0))
    elif t == T.Q2_K:
        s4 = rng.integers(6, 16, (n, 16)).astype(np.uint8)
        q, s = gauss_codes(rng, n * 256, 4); q = q.reshape(n, 2, 4, 32)
        b[:, :16] = s4 | (s4 << 4)
        b[:, 16:80] = (q[:, :, 0] | (q[:, :, 1] << 2) | (q[:, :, 2] << 4) | (q[:, :, 3] << 6)).reshape(n, 64)
        d = jit * std / (s * 10.8)
        b[:, 80:82] = f16bytes(d); b[:, 82:84] = f16bytes(d * 1.5)
    elif t == T.IQ4_XS:
        ql, _ = gauss_codes(rng, n * 256, 16); ql = ql.reshape(n, 128, 2)
        b[:, 2:8] = rng.integers(0, 256, (n, 6)); b[:, 8:] = ql[:, :, 0] | (ql[:, :, 1] << 4)
        b[:, :2] = f16bytes(jit * std / 900.0)
    elif t in (T.IQ2_XXS, T.IQ1_S, T.Q3_K):  # every bit pattern is a valid code
        b[:] = rng.integers(0, 256, (n, size), dtype=np.uint8)
        if t == T.Q3_K: b[:, 108:110] = f16bytes(jit * std / 42.0)
        else: b[:, :2] = f16bytes(jit * std / (50.0 if t == T.IQ2_XXS else 7.0))
    else:
        raise SystemExit(f"no generator for {t}")
    return b


class Source:
    """random block pools per (type, fan-in); tensors are cut from them at random offsets, so 13 GB takes a minute"""

    def __init__(self, seed, pool_mb):
        self.rng = np.random.default_rng(seed); self.pools = {}; self.pool_mb = pool_mb

    def rows(self, t, fan_in, nbytes, gain=1.0):
        key = (t, fan_in, gain); vals, size = BLK[t]
        if key not in self.pools:
            if len(self.pools) > 12: self.pools.pop(next(iter(self.pools)))
            n = max(64, min(self.pool_mb << 20, max(nbytes, size)) // size)
            self.pools[key] = make_blocks(self.rng, t, n, gain / np.sqrt(fan_in)).reshape(-1)
        pool = self.pools[key]; left = nbytes; nblk = len(pool) // size
        while left:
            off = int(self.rng.integers(0, nblk)) * size
            take = min(left, len(pool) - off)
            yield pool[off:off + take]; left -= take


# ----------------------------------------------------------------------------- tensor lists
def more_bits(i, n): return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def tensors(c, quant):
    """yield (name, ne (fastest first), type, active fraction, kind)"""
    L, d = c["layers"], c["d"]
    base = {"q4_k": T.Q4_K, "q4_k_pure": T.Q4_K, "q5_k": T.Q5_K, "q6_k": T.Q6_K, "q8_0": T.Q8_0, "iq4_xs": T.IQ4_XS,
            "q4_0": T.Q4_0, "q5_0": T.Q5_0, "q3_k": T.Q3_K, "q2_k": T.Q2_K, "iq2_xxs": T.IQ2_XXS, "iq1_s": T.IQ1_S,
            "f16": T.F16, "bf16": T.BF16}[quant]
    mix = quant == "q4_k"

    def q(ne0, t):
        if ne0 % BLK[t][0]: return {T.Q8_0: T.Q8_0}.get(t, T.Q5_0)  # as quantisers do: rows not divisible by 256
        return t

    def w(name, *ne, t=base, act=1.0, kind="w"): return name, ne, q(ne[0], t), act, kind
    out_t = base if base in (T.Q8_0, T.F16, T.BF16) else T.Q6_K
    yield w("token_embd.weight", d, c["vocab"], act=0.0, kind="embd")
    yield "output_norm.weight", (d,), T.F32, 1.0, "norm"
    yield w("output.weight", d, c["vocab"], t=out_t, kind="out")
    for i in range(L):
        p = f"blk.{i}."; hi = T.Q6_K if mix and more_bits(i, L) else base
        yield p + "attn_norm.weight", (d,), T.F32, 1.0, "norm"
        yield p + "ffn_norm.weight", (d,), T.F32, 1.0, "norm"
        if c["arch"] == "deepseek2":
            H, kl, r, no, v = c["heads"], c["kv_lora"], c["rope"], c["nope"], c["v"]
            if c["q_lora"]:
                yield w(p + "attn_q_a.weight", d, c["q_lora"], kind="attn")
                yield p + "attn_q_a_norm.weight", (c["q_lora"],), T.F32, 1.0, "norm"
                yield w(p + "attn_q_b.weight", c["q_lora"], H * (no + r), kind="attn")
            else:
                yield w(p + "attn_q.weight", d, H * (no + r), kind="attn")
            yield w(p + "attn_kv_a_mqa.weight", d, kl + r, t=hi, kind="attn")
            yield p + "attn_kv_a_norm.weight", (kl,), T.F32, 1.0, "norm"
            yield w(p + "attn_k_b.weight", no, kl, H, kind="attn")
            yield w(p + "attn_v_b.weight", kl, v, H, kind="attn")
            yield w(p + "attn_output.weight", H * v, d, kind="attn")
            if i < c["dense"]:
                yield w(p + "ffn_gate.weight", d, c["ff"], kind="dense")
                yield w(p + "ffn_up.weight", d, c["ff"], kind="dense")
                yield w(p + "ffn_down.weight", c["ff"], d, t=hi, kind="dense")
            else:
                E, f, s = c["experts"], c["moe_ff"], c["moe_ff"] * c["shared"]; a = c["used"] / E
                yield p + "ffn_gate_inp.weight", (d, E), T.F32, 1.0, "router"
                if c["gating"] == 2: yield p + "exp_probs_b.bias", (E,), T.F32, 1.0, "bias"
                yield w(p + "ffn_gate_exps.weight", d, f, E, act=a, kind="exps")
                yield w(p + "ffn_up_exps.weight", d, f, E, act=a, kind="exps")
                yield w(p + "ffn_down_exps.weight", f, d, E, t=hi, act=a, kind="exps")
                yield w(p + "ffn_gate_shexp.weight", d, s, kind="shexp")
                yield w(p + "ffn_up_shexp.weight", d, s, kind="shexp")
                yield w(p + "ffn_down_shexp.weight", s, d, t=hi, kind="shexp")
        else:
            hd = d // c["heads"]; kv = hd * c["kv"]
            yield w(p + "attn_q.weight", d, d, kind="attn")
            yield w(p + "attn_k.weight", d, kv, kind="attn")
            yield w(p + "attn_v.weight", d, kv, t=hi, kind="attn")
            if c["arch"] == "qwen2":
                for n, m in (("q", d), ("k", kv), ("v", kv)): yield p + f"attn_{n}.bias", (m,), T.F32, 1.0, "bias"
            yield w(p + "attn_output.weight", d, d, kind="attn")
            yield w(p + "ffn_gate.weight", d, c["ff"], kind="dense")
            yield w(p + "ffn_up.weight", d, c["ff"], kind="dense")
            yield w(p + "ffn_down.weight", c["ff"], d, t=hi, kind="dense")


def byte_unicode():
    bs = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256)); cs = bs[:]; n = 0
    for b in range(256):
        if b not in bs: bs.append(b); cs.append(256 + n); n += 1
    return [chr(c) for _, c in sorted(zip(bs, cs))]


def vocab(wr, c, kind):
    if kind == "none":
        wr.add_tokenizer_model("no_vocab"); return
    n = c["vocab"]
    toks = byte_unicode() + ["ab"] + [f"<|fill_{i}|>" for i in range(n - 257 - 4)]
    types = [1] * len(toks)
    toks += ["<|begin|>", "<|end|>", "<|User|>", "<|Assistant|>"]; types += [3] * 4
    wr.add_tokenizer_model("gpt2"); wr.add_tokenizer_pre("default" if kind == "dummy" else kind)
    wr.add_token_list(toks); wr.add_token_types(types); wr.add_token_merges(["a b"])
    wr.add_bos_token_id(n - 4); wr.add_eos_token_id(n - 3); wr.add_add_bos_token(True)
    wr.add_chat_template("{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|User|>{{ m['content'] }}"
                         "{% else %}<|Assistant|>{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
                         "{% if add_generation_prompt %}<|Assistant|>{% endif %}")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("shape", choices=SHAPES); ap.add_argument("out", nargs="?")
    ap.add_argument("--quant", default="q4_k")
    ap.add_argument("--vocab", default="dummy", help="dummy (byte-level gpt2), none, or a pre-tokenizer name")
    ap.add_argument("--moe-layers", type=int, help="number of MoE layers after the dense ones")
    ap.add_argument("--dense", type=int, help="leading dense layers"); ap.add_argument("--layers", type=int); ap.add_argument("--experts", type=int)
    ap.add_argument("--skew", type=float, default=0.0, help="std of the router bias (gating 2 only): >0 gives hot and cold experts")
    ap.add_argument("--seed", type=int, default=1); ap.add_argument("--pool-mb", type=int, default=48)
    ap.add_argument("--dry", action="store_true")
    a = ap.parse_args()
    c = dict(SHAPES[a.shape])
    if a.dense is not None: c["dense"] = a.dense
    if a.layers: c["layers"] = a.layers
    if a.moe_layers is not None: c["layers"] = c["dense"] + a.moe_layers
    if a.experts: c["experts"] = a.experts
    ts = [t for t in tensors(c, a.quant)]

    def nb(ne, t): return int(np.prod(ne, dtype=np.int64)) // BLK[t][0] * BLK[t][1]
    tot = act = exps = params = 0; by = {}
    for name, ne, t, fr, kind in ts:
        b = nb(ne, t); tot += b; act += b * fr; params += int(np.prod(ne, dtype=np.int64))
        by.setdefault(kind, [0, 0.0]); by[kind][0] += b; by[kind][1] += b * fr
    info = dict(shape=a.shape, quant=a.quant, params_M=params // 10**6, total_MB=round(tot / 1e6, 1), active_MB_per_token=round(act / 1e6, 1),
                expert_MB_per_token=round(by.get("exps", [0, 0])[1] / 1e6, 1), by_kind_MB={k: [round(x / 1e6, 1) for x in v] for k, v in by.items()})
    print(json.dumps(info))
    if a.dry or not a.out: return
    wr = GGUFWriter(a.out, c["arch"])
    wr.add_name(f"synthetic-{a.shape}-{a.quant}"); wr.add_block_count(c["layers"]); wr.add_context_length(c["ctx"])
    wr.add_embedding_length(c["d"]); wr.add_feed_forward_length(c["ff"]); wr.add_head_count(c["heads"])
    wr.add_layer_norm_rms_eps(1e-6); wr.add_vocab_size(c["vocab"]); wr.add_rope_freq_base(c.get("base", 10000.0))
    wr.add_quantization_version(2)
    if c["arch"] == "deepseek2":
        wr.add_head_count_kv(1); wr.add_rope_dimension_count(c["rope"]); wr.add_kv_lora_rank(c["kv_lora"])
        if c["q_lora"]: wr.add_q_lora_rank(c["q_lora"])
        wr.add_key_length(c["kv_lora"] + c["rope"]); wr.add_value_length(c["kv_lora"])
        wr.add_key_length_mla(c["nope"] + c["rope"]); wr.add_value_length_mla(c["v"])
        wr.add_leading_dense_block_count(c["dense"]); wr.add_expert_feed_forward_length(c["moe_ff"])
        wr.add_expert_count(c["experts"]); wr.add_expert_used_count(c["used"]); wr.add_expert_shared_count(c["shared"])
        wr.add_expert_weights_scale(c["wscale"]); wr.add_expert_weights_norm(c["wnorm"])
        wr.add_expert_gating_func(gguf.ExpertGatingFuncType(c["gating"]))
        if c["groups"]: wr.add_expert_group_count(c["groups"]); wr.add_expert_group_used_count(c["groups_used"])
        f, o, m = c["yarn"]
        wr.add_rope_scaling_type(gguf.RopeScalingType.YARN); wr.add_rope_scaling_factor(f)
        wr.add_rope_scaling_orig_ctx_len(o); wr.add_rope_scaling_yarn_log_mul(m)
    else:
        wr.add_head_count_kv(c["kv"]); wr.add_rope_dimension_count(c["d"] // c["heads"])
    vocab(wr, c, a.vocab)
    for name, ne, t, fr, kind in ts:
        shp = tuple(reversed(ne))
        if BLK[t][0] == 1 and t != T.BF16:
            wr.add_tensor_info(name, shp, np.dtype(np.float32 if t == T.F32 else np.float16), nb(ne, t))
        else:  # quantised: GGUFWriter wants the byte shape
            bshp = shp[:-1] + (shp[-1] // BLK[t][0] * BLK[t][1],)
            wr.add_tensor_info(name, bshp, np.dtype(np.uint8), nb(ne, t), raw_dtype=t)
    wr.write_header_to_file(); wr.write_kv_data_to_file(); wr.write_ti_data_to_file()
    src = Source(a.seed, a.pool_mb); rng = np.random.default_rng(a.seed + 7)
    file = wr.fout[0]; wr.write_padding(file, file.tell())
    want = file.tell()
    for name, ne, t, fr, kind in ts:
        n = int(np.prod(ne))
        if kind == "norm": file.write(np.ones(n, np.float32).tobytes())
        elif kind == "bias":
            s = a.skew if "exp_probs" in name else 0.02
            file.write((rng.standard_normal(n) * s).astype(np.float32).tobytes())
        elif kind == "router": file.write((rng.standard_normal(n, dtype=np.float32) / np.sqrt(ne[0])).astype(np.float32).tobytes())
        else:
            for chunk in src.rows(t, 1 if kind == "embd" else ne[0], nb(ne, t)): file.write(chunk)
        wr.write_padding(file, nb(ne, t))
        want = want + nb(ne, t) + -nb(ne, t) % 32
        assert file.tell() == want, (name, file.tell(), want)
    file.close()


if __name__ == "__main__":
    main()
