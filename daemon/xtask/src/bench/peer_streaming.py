"""Speed of llama.cpp or ik_llama.cpp on a model larger than the memory they may use: mapped, not repacked, not warmed up.

Prints one line of JSON. Run by `cargo xtask bench streaming`, which brings the library and limits the memory.
"""

import argparse
import ctypes
import json
import os
import signal
import statistics
import time
from ctypes import c_int, c_size_t, c_void_p
from pathlib import Path

from peer_bench import Context, Ik, Mainline, Peer, prefill_seconds, read_prompts

MMAP = 1  # llama_load_mode
MADV_DONTNEED = 4


class Mapped(Mainline):
    """llama.cpp, told to map the file whatever it would choose itself."""

    @staticmethod
    def set_model(params: ctypes.Structure, repack: bool) -> None:
        params.use_extra_bufts, params.load_mode = repack, MMAP


def read_bytes() -> int:
    """What this process has had read from drives, by faults in maps too."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["read_bytes"])


def unload(model: Path) -> None:
    """Leaves the model mapped and nothing of it in memory: as --defer-experts begins, whose library is not in the package."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = [c_void_p, c_size_t, c_int]
    parts = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, *_, path = line.split(maxsplit=5)
        if path == str(model):
            first, last = (int(end, 16) for end in place.split("-"))
            if libc.madvise(first, last - first, MADV_DONTNEED) != 0:
                raise SystemExit(f"madvise: {os.strerror(ctypes.get_errno())}")
            parts += 1
    if parts == 0:
        raise SystemExit(f"{model} is not mapped")
    with model.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def prefill(peer: Peer, n: int) -> dict:
    with Context(peer, 1, n) as context:
        before = read_bytes()
        seconds, _ = prefill_seconds(context, n)
    return {"tok_s": n / seconds, "bytes_read": read_bytes() - before}


def decode(peer: Peer, depth: int, n: int) -> dict:
    """Token by token, after a short prompt."""
    with Context(peer, 1, depth + n) as context:
        read_prompts(context, 1, depth)
        token, times, before, pointers = peer.tokens(1, 1)[0], [], read_bytes(), []
        for _ in range(n):
            start = time.perf_counter()
            context.fill({0: [token]})
            pointers = context.step()
            times.append(time.perf_counter() - start)
            token = (token * 31 + 7) % peer.n_vocab
        context.finite(pointers)
    return {
        "tokens": n,
        "tok_s": n / sum(times),
        "median_s": statistics.median(times),
        "token_s": times,
        "bytes_read": read_bytes() - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=("mainline", "ik"), required=True)
    parser.add_argument("--library", type=Path, required=True, help="folder of libllama")
    parser.add_argument("--cpu", help="llama.cpp's library for one processor, instead of the best")
    parser.add_argument("--repack", choices=("no",), required=True)
    parser.add_argument("--deferred", action="store_true", help="begin with nothing of the model in memory")
    parser.add_argument("--model", required=True)
    for name in ("threads", "prefill", "decode", "depth"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    # Python would wait for the end of a step, which may take a minute.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # An engine that aborts looks for a debugger, whose report would hide what it said before.
    os.environ["PATH"] = ""
    start, before = time.perf_counter(), read_bytes()
    peer = Peer(Ik if args.kind == "ik" else Mapped, args)
    load = {"load_s": time.perf_counter() - start, "load_bytes_read": read_bytes() - before}
    if args.deferred:
        unload(Path(args.model).resolve())
    line = load | {"prefill": prefill(peer, args.prefill), "decode": decode(peer, args.depth, args.decode)}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
