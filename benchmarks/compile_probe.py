"""Whether torch.compile pays: the product's own probe on a decoder of six of BLOOM-560M's layers.

``python benchmarks/compile_probe.py [--device cuda] [--dtype bfloat16]``
"""

import argparse
import time

import common
import torch

from polyprompt.engine.compiling import LEAST_GAIN, compile_where_it_pays


def main() -> None:
    """Probe and print the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=common.DTYPES, default="float32")
    given = parser.parse_args()
    common.begin()
    model = common.bloom(common.DTYPES[given.dtype], n_layer=6).to(torch.device(given.device))
    began = time.perf_counter()
    gain = compile_where_it_pays(common.wrapped(model))
    kept = "kept" if gain >= LEAST_GAIN else "dropped"
    print(f"probe and compilation {time.perf_counter() - began:.0f} s; {kept}")
    print(f"ratio {gain:.2f}")


if __name__ == "__main__":
    main()
