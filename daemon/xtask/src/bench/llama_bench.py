"""Speed of llama.cpp, measured as `wels bench` measures: the same tokens, the same steps, the same medians.

Prints one line of JSON. Run by `cargo xtask bench`, in the environment that holds llama-cpp-python.
"""

import argparse
import ctypes
import json
import statistics
import time

import llama_cpp
import numpy as np


class Peer:
    """A model and one sequence, through llama.cpp's own C interface."""

    def __init__(self, path: str, threads: int, room: int):
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = room
        params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def forget(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def step(self, tokens: list[int]) -> np.ndarray:
        """Appends the tokens to the sequence; the logits after the last one."""
        for start in range(0, len(tokens), 512):
            chunk = tokens[start : start + 512]
            array = (llama_cpp.llama_token * len(chunk))(*chunk)
            code = llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(array, len(chunk)))
            if code != 0:
                raise SystemExit(f"llama_decode failed with {code}")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(logits, shape=(self.n_vocab,))

    def prompt(self, n: int) -> list[int]:
        return [(i * 7919 + 17) % self.n_vocab for i in range(n)]


@llama_cpp.llama_log_callback
def _silent(_level, _text, _data):
    pass


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
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    for name in ("prefill", "decode", "depth", "repeat"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    peer = Peer(args.model, args.threads, max(args.prefill, args.depth + args.decode) + 1)
    # The first pass touches every page of the weights; it is not counted.
    prefill_seconds(peer, min(32, args.prefill))
    prefill = statistics.median(prefill_seconds(peer, args.prefill) for _ in range(args.repeat))
    decode = statistics.median(decode_seconds(peer, args.depth, args.decode) for _ in range(args.repeat))
    line = {
        "engine": f"llama.cpp of llama-cpp-python {llama_cpp.__version__}",
        "features": llama_cpp.llama_print_system_info().decode(),
        "threads": args.threads,
        "prefill_tok_s": args.prefill / prefill,
        "decode_tok_s": args.decode / decode,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
