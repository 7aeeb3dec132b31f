"""Speed of kt-kernel on the routed experts of one layer: made-up weights, random choices.

Prints one line of JSON. Run by `cargo xtask bench peers --work moe-layer`, which brings the package. Its extension is loaded
without the package around it, which would want PyTorch.
"""

import argparse
import importlib.util
import json
import os
import time
from pathlib import Path

import numpy as np

TOKENS = (1, 8, 512)
# GGML's numbers, and bytes of 256 values.
FORMATS = {"Q4_K": (12, 144), "Q6_K": (14, 210)}
BF16 = 30
# Best first, with the processor's flags that each needs.
VARIANTS = {
    "amx": "amx_tile amx_int8 amx_bf16 avx512f avx512bw avx512_vnni avx512_vbmi avx512_bf16",
    "avx512_bf16": "avx512f avx512bw avx512_vnni avx512_vbmi avx512_bf16",
    "avx512_vbmi": "avx512f avx512bw avx512_vnni avx512_vbmi",
    "avx512_vnni": "avx512f avx512bw avx512_vnni",
    "avx512_base": "avx512f avx512bw",
    "avx2": "avx2 fma",
}


def variant(level: str | None) -> str:
    """The best set of instructions the package has a library for and this processor can run."""
    flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    flags = set(flags.split()) & ({"avx2", "fma"} if level == "avx2" else set(flags.split()))
    for name, needed in VARIANTS.items():
        if flags.issuperset(needed.split()):
            return name
    raise SystemExit("this processor has no AVX2")


def extension(package: Path, name: str):
    found = sorted((package / "kt_kernel").glob(f"_kt_kernel_ext_{name}.*.so"))
    if not found:
        raise SystemExit(f"the package has no library for {name}")
    spec = importlib.util.spec_from_file_location("kt_kernel_ext", found[0])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Layer:
    """The experts of one layer in one backend."""

    def __init__(self, kernel, pool, shape: list[int], backend: str, down: str):
        self.d_model, self.d_expert, self.top_k, self.n_experts = shape
        self.pool, self.keep = pool, []
        config = kernel.moe.MOEConfig(self.n_experts, self.top_k, self.d_model, self.d_expert, 0)
        config.max_len, config.pool = max(1024, *TOKENS), pool.backend_
        if backend == "llamafile":
            config.m_block, config.group_min_len, config.group_max_len = 32, 10, 1024
            config.gate_type = config.up_type = FORMATS["Q4_K"][0]
            config.down_type, config.hidden_type = FORMATS[down][0], BF16
            weights = [self.blocks("Q4_K"), self.blocks("Q4_K"), self.blocks(down)]
            made = kernel.moe.MOE
        else:
            weights = [self.brain_floats() for _ in range(3)]
            made = getattr(kernel.moe, backend)
        config.gate_proj, config.up_proj, config.down_proj = (array.ctypes.data for array in weights)
        order = np.arange(self.n_experts, dtype=np.int64)
        self.keep += [*weights, order]
        if hasattr(config, "physical_to_logical_map"):
            config.physical_to_logical_map = order.ctypes.data
        self.moe = made(config)
        try:
            pool.submit(self.moe.load_weights_task(order.ctypes.data))
        except TypeError:
            pool.submit(self.moe.load_weights_task())
        pool.sync()
        if backend != "llamafile":
            # Converted: the originals are in the way.
            self.keep = [order]

    def n_values(self) -> int:
        return self.n_experts * self.d_model * self.d_expert

    def blocks(self, name: str) -> np.ndarray:
        """Any bytes are codes; those of scales must be numbers, so every byte is small."""
        n = self.n_values() // 256 * FORMATS[name][1]
        return np.resize((np.arange(31 * 4096, dtype=np.uint32) * 7 % 31).astype(np.uint8), n)

    def brain_floats(self) -> np.ndarray:
        some = np.random.default_rng(1).standard_normal(1 << 22, dtype=np.float32) * 0.02
        return np.resize((some.view(np.uint32) >> 16).astype(np.uint16), self.n_values())

    def seconds(self, n: int) -> float:
        """The fastest of some steps of `n` tokens, each routed anew."""
        random = np.random.default_rng(n)
        x = (random.standard_normal((n, self.d_model), dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
        y, count = np.empty_like(x), np.array([n], dtype=np.int32)
        weights = np.full((n, self.top_k), 1 / self.top_k, dtype=np.float32)
        best = float("inf")
        for _ in range(24 if n < 512 else 3):
            ids = np.ascontiguousarray(random.random((n, self.n_experts)).argsort(-1)[:, : self.top_k], dtype=np.int64)
            pointers = [array.ctypes.data for array in (ids, weights, x, y)]
            start = time.perf_counter()
            self.pool.submit(self.moe.forward_task(count.ctypes.data, self.top_k, *pointers, False))
            self.pool.sync()
            best = min(best, time.perf_counter() - start)
        if not np.isfinite((y.astype(np.uint32) << 16).view(np.float32)).all():
            raise RuntimeError("the results are not finite")
        return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, required=True, help="the unpacked wheel")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--level", help="avx2: nothing beyond it")
    parser.add_argument("--shape", type=int, nargs=4, required=True, help="d_model d_expert top_k n_experts")
    args = parser.parse_args()
    name = variant(args.level)
    kernel = extension(args.package, name)
    config = kernel.WorkerPoolConfig()
    config.subpool_count, config.subpool_numa_map, config.subpool_thread_count = 1, [0], [args.threads]
    pool = kernel.CPUInfer(config)
    backends = [("llamafile", "Q4_K"), ("llamafile", "Q6_K"), ("AMXInt4_MOE", ""), ("AMXInt8_MOE", "")]
    steps, missing = [], []
    for backend, down in backends:
        if backend != "llamafile" and not (name == "amx" and hasattr(kernel.moe, backend)):
            missing.append(f"kt-kernel's {backend} needs AMX; this run uses {name}")
            continue
        layer = Layer(kernel, pool, args.shape, backend, down)
        for n in TOKENS:
            try:
                steps.append({"backend": backend, "down_format": down, "tokens": n, "seconds": layer.seconds(n)})
            except RuntimeError as error:
                missing.append(f"kt-kernel's {backend}, down {down}, {n} tokens: {error}")
    print(json.dumps({"moe": steps, "missing": missing, "variant": name}), flush=True)
    # Its threads do not end by themselves.
    os._exit(0)


if __name__ == "__main__":
    main()
