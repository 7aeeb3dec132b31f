"""Speed of llama.cpp or ik_llama.cpp, measured as `wels bench` measures: the same tokens, the same steps, the same medians.

Prints one line of JSON. Run by `cargo xtask bench`, which brings the library.
"""

import argparse
import ctypes
import json
import os
import statistics
import time
from ctypes import c_bool, c_char_p, c_float, c_int8, c_int32, c_size_t, c_uint32, c_void_p
from pathlib import Path

import numpy as np

TOKENS_MAX = 512


def struct(name: str, *groups: tuple, rest: int = 256) -> type[ctypes.Structure]:
    """A C struct of (type, names) in order. `rest` is room for what a later version may add at the end."""
    fields = [(field, kind) for kind, names in groups for field in names.split()]
    return type(name, (ctypes.Structure,), {"_fields_": [*fields, ("rest", ctypes.c_uint8 * rest)]})


Batch = struct(
    "llama_batch",
    (c_int32, "n_tokens"),
    (ctypes.POINTER(c_int32), "token"),
    (c_void_p, "embd"),
    (ctypes.POINTER(c_int32), "pos n_seq_id"),
    (ctypes.POINTER(ctypes.POINTER(c_int32)), "seq_id"),
    (ctypes.POINTER(c_int8), "logits"),
    rest=64,
)


class Mainline:
    """llama.cpp 0.5.0: what differs from ik_llama.cpp."""

    NAME = "llama.cpp"
    LIBRARY = "libllama.*so"

    ModelParams = struct(
        "llama_model_params",
        (c_void_p, "devices tensor_buft_overrides"),
        (c_int32, "n_gpu_layers split_mode load_mode lazy_mode main_gpu"),
        (c_void_p, "tensor_split progress_callback progress_callback_user_data kv_overrides"),
        (c_bool, "vocab_only check_tensors use_extra_bufts no_host no_alloc load_mtp"),
    )
    ContextParams = struct(
        "llama_context_params",
        (c_uint32, "n_ctx n_batch n_ubatch n_seq_max"),
    )
    SIGNATURES = {
        "llama_get_memory": (c_void_p, [c_void_p]),
        "llama_memory_clear": (None, [c_void_p, c_bool]),
    }

    @staticmethod
    def load_backends(folder: Path, cpu: str | None) -> None:
        ggml = ctypes.CDLL(str(only(folder, "libggml.*so")))
        if cpu is None:
            # Picks the variant that was compiled for this processor.
            ggml.ggml_backend_load_all_from_path(str(folder).encode())
            return
        ggml.ggml_backend_load.restype = c_void_p
        if not ggml.ggml_backend_load(str(only(folder, f"libggml-cpu-{cpu}.so")).encode()):
            raise SystemExit(f"llama.cpp cannot load its library for {cpu}")

    @staticmethod
    def set_model(params: ctypes.Structure, repack: bool) -> None:
        params.use_extra_bufts = repack

    @staticmethod
    def forget(library: ctypes.CDLL, context: int) -> None:
        library.llama_memory_clear(library.llama_get_memory(context), True)


class Ik:
    """ik_llama.cpp as in its Python package 0.1.5."""

    NAME = "ik_llama.cpp"
    LIBRARY = "libllama.so"

    ModelParams = struct(
        "llama_model_params",
        (c_void_p, "devices"),
        (c_int32, "n_gpu_layers mla split_mode main_gpu max_gpu ncmoe type_k type_v max_ctx_size n_seq_max n_ubatch amb"),
        (c_int32, "fit_margin"),
        (c_bool, "fit"),
        (c_int32, "worst_graph_tokens type_k_first type_k_last type_v_first type_v_last"),
        (c_int32, "n_k_first n_k_last n_v_first n_v_last"),
        (c_void_p, "tensor_split rpc_servers progress_callback progress_callback_user_data kv_overrides"),
        (c_void_p, "tensor_buft_overrides"),
        (c_bool, "vocab_only use_mmap use_mlock check_tensors repack_tensors use_thp validate_quants merge_qkv"),
        (c_bool, "merge_up_gate_exps mtp dry_run flash_attn"),
    )
    ContextParams = struct(
        "llama_context_params",
        (c_uint32, "seed n_ctx n_batch n_ubatch n_seq_max n_threads n_threads_batch"),
        (c_int32, "max_extra_alloc worst_case_tokens rope_scaling_type pooling_type attention_type"),
        (c_float, "rope_freq_base rope_freq_scale yarn_ext_factor yarn_attn_factor yarn_beta_fast yarn_beta_slow"),
        (c_uint32, "yarn_orig_ctx"),
        (c_float, "defrag_thold"),
        (c_void_p, "cb_eval cb_eval_user_data"),
        (c_int32, "type_k type_v type_reduce type_k_first type_k_last type_v_first type_v_last"),
        (c_int32, "n_k_first n_k_last n_v_first n_v_last"),
        (c_bool, "logits_all embeddings offload_kqv flash_attn"),
        (c_int32, "mla_attn attn_max_batch"),
        (c_bool, "fused_moe_up_gate grouped_expert_routing fused_up_gate"),
    )
    SIGNATURES = {
        "llama_kv_cache_clear": (None, [c_void_p]),
        "llama_kv_cache_seq_cp": (None, [c_void_p, c_int32, c_int32, c_int32, c_int32]),
    }

    @staticmethod
    def load_backends(folder: Path, cpu: str | None) -> None:
        """There is but one: AVX2."""

    @staticmethod
    def set_model(params: ctypes.Structure, repack: bool) -> None:
        params.mla, params.flash_attn = 3, True
        # Repacked tensors are copies: a map could not hold them.
        params.repack_tensors, params.use_mmap = repack, not repack

    @staticmethod
    def forget(library: ctypes.CDLL, context: int) -> None:
        library.llama_kv_cache_clear(context)


def set_context(kind: type, params: ctypes.Structure, n_ctx: int, n_seqs: int) -> None:
    # Tells a layout that is not the one written down above.
    if (params.n_batch, params.n_ubatch, params.n_seq_max) != (2048, 512, 1):
        raise SystemExit(f"{kind.NAME}: llama_context_params is laid out in another way than expected")
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = n_ctx, TOKENS_MAX, TOKENS_MAX, n_seqs
    if kind is Ik:
        params.flash_attn, params.mla_attn = True, 3
        params.fused_moe_up_gate, params.fused_up_gate = True, True


def signatures(kind: type) -> dict:
    """The few functions of llama.h that a benchmark needs, with their types."""
    return kind.SIGNATURES | {
        "llama_backend_init": (None, []),
        "llama_log_set": (None, [c_void_p, c_void_p]),
        "llama_print_system_info": (c_char_p, []),
        "llama_model_default_params": (kind.ModelParams, []),
        "llama_model_load_from_file": (c_void_p, [c_char_p, kind.ModelParams]),
        "llama_model_get_vocab": (c_void_p, [c_void_p]),
        "llama_vocab_n_tokens": (c_int32, [c_void_p]),
        "llama_context_default_params": (kind.ContextParams, []),
        "llama_init_from_model": (c_void_p, [c_void_p, kind.ContextParams]),
        "llama_free": (None, [c_void_p]),
        "llama_set_n_threads": (None, [c_void_p, c_int32, c_int32]),
        "llama_batch_init": (Batch, [c_int32, c_int32, c_int32]),
        "llama_decode": (c_int32, [c_void_p, Batch]),
        "llama_get_logits_ith": (ctypes.POINTER(c_float), [c_void_p, c_int32]),
    }


def only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise SystemExit(f"{folder} holds no {pattern}")
    return found[0]


class Peer:
    """A library and a model."""

    def __init__(self, kind: type, args: argparse.Namespace):
        self.kind, self.threads = kind, args.threads
        self.library = ctypes.CDLL(str(only(args.library, kind.LIBRARY)))
        for name, (result, arguments) in signatures(kind).items():
            function = getattr(self.library, name)
            function.restype, function.argtypes = result, arguments
        self.quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)(lambda *_: None)
        self.library.llama_log_set(ctypes.cast(self.quiet, c_void_p), None)
        kind.load_backends(args.library, args.cpu)
        self.library.llama_backend_init()
        params = self.library.llama_model_default_params()
        kind.set_model(params, args.repack == "yes")
        self.model = self.library.llama_model_load_from_file(args.model.encode(), params)
        if not self.model:
            raise SystemExit(f"{kind.NAME} cannot load {args.model}")
        self.n_vocab = self.library.llama_vocab_n_tokens(self.library.llama_model_get_vocab(self.model))

    def tokens(self, n: int, salt: int) -> list[int]:
        """As `wels bench` chooses them."""
        return [(i * 7919 + salt * 104_729 + 17) % self.n_vocab for i in range(n)]


class Context:
    """Some sequences with room for `room` tokens each."""

    def __init__(self, peer: Peer, n_seqs: int, room: int):
        self.peer, self.library = peer, peer.library
        params = self.library.llama_context_default_params()
        set_context(peer.kind, params, n_seqs * (-room % 256 + room), n_seqs)
        self.context = self.library.llama_init_from_model(peer.model, params)
        if not self.context:
            raise SystemExit(f"{peer.kind.NAME} cannot make a context")
        self.library.llama_set_n_threads(self.context, peer.threads, peer.threads)
        self.batch = self.library.llama_batch_init(TOKENS_MAX, 0, 1)
        self.lengths = [0] * n_seqs

    def __enter__(self) -> "Context":
        return self

    def __exit__(self, *_: object) -> None:
        self.library.llama_free(self.context)

    def forget(self) -> None:
        self.peer.kind.forget(self.library, self.context)
        self.lengths = [0] * len(self.lengths)

    def fill(self, chunks: dict[int, list[int]]) -> None:
        """The tokens that each sequence is to be extended by in the next step."""
        batch, i = self.batch, 0
        for seq, tokens in chunks.items():
            for n, token in enumerate(tokens):
                batch.token[i], batch.pos[i] = token, self.lengths[seq] + n
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, seq
                batch.logits[i] = n + 1 == len(tokens)
                i += 1
            self.lengths[seq] += len(tokens)
        batch.n_tokens = i

    def step(self) -> list:
        """Computes what was filled in; pointers to the logits behind each sequence's last token."""
        code = self.library.llama_decode(self.context, self.batch)
        if code != 0:
            raise SystemExit(f"llama_decode failed with {code}")
        wanted = [i for i in range(self.batch.n_tokens) if self.batch.logits[i]]
        return [self.library.llama_get_logits_ith(self.context, i) for i in wanted]

    def finite(self, pointers: list) -> np.ndarray:
        rows = np.stack([np.ctypeslib.as_array(row, shape=(self.peer.n_vocab,)) for row in pointers])
        if not np.isfinite(rows).all():
            name = self.peer.kind.NAME
            raise SystemExit(f"{name}'s logits are not finite: the speed of a wrong answer is worth nothing")
        return rows


def prefill_seconds(context: Context, n: int) -> tuple[float, np.ndarray]:
    """Seconds for a prompt, and the logits behind it."""
    context.forget()
    tokens, seconds, pointers = context.peer.tokens(n, 0), 0.0, []
    for first in range(0, n, TOKENS_MAX):
        context.fill({0: tokens[first : first + TOKENS_MAX]})
        start = time.perf_counter()
        pointers = context.step()
        seconds += time.perf_counter() - start
    return seconds, context.finite(pointers)[0].copy()


def read_prompts(context: Context, n_seqs: int, depth: int) -> None:
    """A prompt for each sequence. ik_llama.cpp has them share one: it aborts where all keys of a block are others'."""
    context.forget()
    own = 1 if context.peer.kind is Ik else n_seqs
    for seq in range(own):
        context.fill({seq: context.peer.tokens(depth, seq)})
        context.step()
    for seq in range(own, n_seqs):
        context.library.llama_kv_cache_seq_cp(context.context, 0, seq, 0, depth)
        context.lengths[seq] = depth


def decode_seconds(context: Context, n_seqs: int, depth: int, n: int) -> float:
    read_prompts(context, n_seqs, depth)
    last = [context.peer.tokens(1, seq + 1)[0] for seq in range(n_seqs)]
    start = time.perf_counter()
    for _ in range(n):
        context.fill({seq: [token] for seq, token in enumerate(last)})
        pointers = context.step()
        last = [(token * 31 + 7) % context.peer.n_vocab for token in last]
    seconds = time.perf_counter() - start
    context.finite(pointers)
    return seconds


def prefill(peer: Peer, args: argparse.Namespace) -> float:
    with Context(peer, 1, args.prefill) as context:
        # The first pass touches every page of the weights; it is not counted.
        prefill_seconds(context, min(32, args.prefill))
        runs = [prefill_seconds(context, args.prefill) for _ in range(args.repeat)]
    if args.logits:
        runs[-1][1].astype("<f4").tofile(args.logits)
    return args.prefill / statistics.median(seconds for seconds, _ in runs)


def decode(peer: Peer, args: argparse.Namespace, n_seqs: int) -> dict:
    with Context(peer, n_seqs, args.depth + args.decode) as context:
        runs = [decode_seconds(context, n_seqs, args.depth, args.decode) for _ in range(args.repeat)]
    return {"sequences": n_seqs, "tok_s": args.decode * n_seqs / statistics.median(runs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=("mainline", "ik"), required=True)
    parser.add_argument("--library", type=Path, required=True, help="folder of libllama")
    parser.add_argument("--cpu", help="llama.cpp's library for one processor, instead of the best")
    parser.add_argument("--repack", choices=("yes", "no"), required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sequences", required=True, help="numbers, with commas")
    parser.add_argument("--logits", help="file for the logits behind the prompt")
    for name in ("threads", "prefill", "decode", "depth", "repeat"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    # An engine that aborts looks for a debugger, whose report would hide what it said before.
    os.environ["PATH"] = ""
    peer = Peer(Ik if args.kind == "ik" else Mainline, args)
    line = {
        "features": peer.library.llama_print_system_info().decode().strip(),
        "threads": args.threads,
        "prefill_tok_s": prefill(peer, args),
        "decode": [decode(peer, args, int(n)) for n in args.sequences.split(",")],
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
