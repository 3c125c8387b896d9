"""Encoding sentences: ours against the processor's own matrix multiplication at these shapes.

The limit is the time of the projections alone, multiplied by PyTorch at the sizes of the batches.

``python benchmarks/encode_vs_limit.py [--dtype bfloat16]``
"""

import argparse

import common
import torch

from polyprompt.data.batching import token_budget_batches

LANGUAGES = ("eng_Latn", "fra_Latn", "zho_Hans", "hin_Deva", "swh_Latn")
SENTENCES, TOKENS_PER_BATCH = 80, 512


def main() -> None:
    """Time both sides and print the share."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dtype", choices=common.DTYPES, default="float32")
    given = parser.parse_args()
    dtype = common.DTYPES[given.dtype]
    common.begin()
    per_language = SENTENCES // len(LANGUAGES)
    texts = [t for name in LANGUAGES for t in common.sentences((name,))[-per_language:]]
    backbone = common.wrapped(common.bloom(dtype))
    engine = common.cached_engine(backbone)
    inputs = [common.encoded(text) for text in texts]
    batches = token_budget_batches([one.tokens for one in inputs], TOKENS_PER_BATCH)
    slots = sum(len(batch) * max(inputs[i].tokens for i in batch) for batch in batches)
    tokens = sum(one.tokens for one in inputs)
    print(f"{len(inputs)} sentences, {tokens} tokens; padding would be {slots / tokens - 1:.1%}")
    width, layers = common.GEOMETRY["hidden_size"], common.GEOMETRY["n_layer"]
    shapes = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    weights = [[torch.randn(o, i, dtype=dtype) for i, o in shapes] for _ in range(layers)]
    matrices = [
        [torch.randn(sum(inputs[i].tokens for i in b), n, dtype=dtype) for n in (width, 4 * width)]
        for b in batches
    ]

    def ours() -> None:
        for batch in batches:
            engine.bare([inputs[i] for i in batch])

    def limit() -> None:
        for narrow, wide in matrices:
            for layer in weights:
                for weight in layer:
                    torch.nn.functional.linear(wide if weight.shape[1] > width else narrow, weight)

    costs = common.take_turns({"ours": ours, "its matrix products alone": limit})
    mine, least = costs.values()
    for kind in ("cpu", "wall"):
        own, best = getattr(mine, kind), getattr(least, kind)
        print(f"{kind}: {tokens / own:.0f} tokens/s of at most {tokens / best:.0f}")
        print(f"ratio {best / own:.3g}")


if __name__ == "__main__":
    main()
