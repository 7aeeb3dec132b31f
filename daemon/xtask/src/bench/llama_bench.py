"""Speed of llama.cpp, measured as `wels bench` measures: the same tokens, the same steps, the same medians.

Prints one line of JSON. Run by `cargo xtask bench`, which brings the library.
"""

import argparse
import ctypes
import json
import statistics
import time
from pathlib import Path

import numpy as np


class Params(ctypes.Structure):
    """llama_model_params and llama_context_params: both travel by value, both are smaller than this.

    Only n_ctx is set here, the first field of the latter; all else keeps llama.cpp's own defaults.
    """

    _fields_ = [("n_ctx", ctypes.c_uint32), ("rest", ctypes.c_uint8 * 1020)]


class Batch(ctypes.Structure):
    """llama_batch: n_tokens and six pointers."""

    _fields_ = [("n_tokens", ctypes.c_int32), ("pointers", ctypes.c_void_p * 6)]


class Llama:
    """The few functions of llama.h that a benchmark needs, with their types."""

    SIGNATURES = {
        "llama_backend_init": (None, []),
        "llama_log_set": (None, [ctypes.c_void_p, ctypes.c_void_p]),
        "llama_print_system_info": (ctypes.c_char_p, []),
        "llama_model_default_params": (Params, []),
        "llama_model_load_from_file": (ctypes.c_void_p, [ctypes.c_char_p, Params]),
        "llama_model_get_vocab": (ctypes.c_void_p, [ctypes.c_void_p]),
        "llama_vocab_n_tokens": (ctypes.c_int32, [ctypes.c_void_p]),
        "llama_context_default_params": (Params, []),
        "llama_init_from_model": (ctypes.c_void_p, [ctypes.c_void_p, Params]),
        "llama_set_n_threads": (None, [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32]),
        "llama_get_memory": (ctypes.c_void_p, [ctypes.c_void_p]),
        "llama_memory_clear": (None, [ctypes.c_void_p, ctypes.c_bool]),
        "llama_batch_get_one": (Batch, [ctypes.c_void_p, ctypes.c_int32]),
        "llama_decode": (ctypes.c_int32, [ctypes.c_void_p, Batch]),
        "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), [ctypes.c_void_p, ctypes.c_int32]),
    }

    def __init__(self, folder: Path):
        library = ctypes.CDLL(str(only(folder, "libllama.*so")))
        ggml = ctypes.CDLL(str(only(folder, "libggml.*so")))
        for name, (result, arguments) in self.SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name.removeprefix("llama_"), function)
        self.quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
        self.log_set(ctypes.cast(self.quiet, ctypes.c_void_p), None)
        # Picks the variant that was compiled for this processor.
        ggml.ggml_backend_load_all_from_path(str(folder).encode())
        self.backend_init()


def only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise SystemExit(f"{folder} holds no {pattern}")
    return found[0]


class Peer:
    """A model and one sequence."""

    def __init__(self, llama: Llama, path: str, threads: int, room: int):
        self.llama = llama
        self.model = llama.model_load_from_file(path.encode(), llama.model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        params = llama.context_default_params()
        params.n_ctx = room
        self.context = llama.init_from_model(self.model, params)
        if not self.context:
            raise SystemExit("llama.cpp cannot make a context")
        llama.set_n_threads(self.context, threads, threads)
        self.n_vocab = llama.vocab_n_tokens(llama.model_get_vocab(self.model))

    def forget(self) -> None:
        self.llama.memory_clear(self.llama.get_memory(self.context), True)

    def step(self, tokens: list[int]) -> np.ndarray:
        """Appends the tokens to the sequence; the logits after the last one."""
        array = (ctypes.c_int32 * len(tokens))(*tokens)
        code = self.llama.decode(self.context, self.llama.batch_get_one(array, len(tokens)))
        if code != 0:
            raise SystemExit(f"llama_decode failed with {code}")
        return np.ctypeslib.as_array(self.llama.get_logits_ith(self.context, -1), shape=(self.n_vocab,))

    def prompt(self, n: int) -> list[int]:
        return [(i * 7919 + 17) % self.n_vocab for i in range(n)]


def prefill_seconds(peer: Peer, n: int) -> float:
    tokens = peer.prompt(n)
    peer.forget()
    start = time.perf_counter()
    logits = peer.step(tokens)
    seconds = time.perf_counter() - start
    expect_finite(logits)
    return seconds


def decode_seconds(peer: Peer, depth: int, n: int) -> float:
    peer.forget()
    token = int(peer.step(peer.prompt(depth)).argmax())
    start = time.perf_counter()
    for _ in range(n):
        logits = peer.step([token])
        token = int(logits.argmax())
    seconds = time.perf_counter() - start
    expect_finite(logits)
    return seconds


def expect_finite(logits: np.ndarray) -> None:
    if not np.isfinite(logits).all():
        raise SystemExit("llama.cpp's logits are not finite: the speed of a wrong answer is worth nothing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", type=Path, required=True, help="folder of libllama")
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    for name in ("prefill", "decode", "depth", "repeat"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    llama = Llama(args.library)
    peer = Peer(llama, args.model, args.threads, max(args.prefill, args.depth + args.decode) + 1)
    # The first pass touches every page of the weights; it is not counted.
    prefill_seconds(peer, min(32, args.prefill))
    prefill = statistics.median(prefill_seconds(peer, args.prefill) for _ in range(args.repeat))
    decode = statistics.median(decode_seconds(peer, args.depth, args.decode) for _ in range(args.repeat))
    line = {
        "features": llama.print_system_info().decode(),
        "threads": args.threads,
        "prefill_tok_s": args.prefill / prefill,
        "decode_tok_s": args.decode / decode,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
