"""Training a soft prompt: our cached engine against the procedure of Philippy et al. (2024).

Their public code pads every text to 128 tokens, puts the prompt behind it, and scores the whole
vocabulary at every position.

``python benchmarks/train_vs_paper.py [--runs N] [--dtype bfloat16]``
"""

import common
import numpy as np
import torch
from train_vs_peft import OurStep, arguments, compare, padded

WIDTH = 128


def main() -> None:
    """Time both sides, compose a whole run, print the ratio."""
    given = arguments()
    common.begin()
    texts = common.sentences()
    model = common.bloom(common.DTYPES[given.dtype])
    backbone = common.wrapped(model)
    runs = common.members(backbone, texts, [common.PROMPT] * given.runs)
    engine = common.cached_engine(backbone)
    peers = {"the paper's procedure": PaperStep(model, texts, keep=0)}
    if not given.documented_only:
        peers["the same, logits_to_keep=1"] = PaperStep(model, texts, keep=1)
    compare(engine, runs, OurStep(engine, runs), peers)


class PaperStep:
    """One optimiser step: a batch padded to 128, the prompt behind it."""

    def __init__(self, model, texts: list[np.ndarray], *, keep: int) -> None:
        self.model, self._texts, self._keep = model, texts, keep
        self._prompt = torch.nn.Parameter(torch.rand(common.PROMPT, model.config.hidden_size) - 0.5)
        self._optimiser = torch.optim.AdamW([self._prompt], lr=0.01)
        self._rng = np.random.default_rng(0)

    def __call__(self) -> None:
        """Take it."""
        rows = [self._texts[i][:WIDTH] for i in self._rng.choice(len(self._texts), common.BATCH)]
        ids, mask = padded(rows, WIDTH)
        words = self.model.get_input_embeddings()(ids)
        prompt = self._prompt.to(words.dtype).expand(len(rows), -1, -1)
        seen = torch.cat([mask, torch.ones(len(rows), common.PROMPT, dtype=torch.long)], 1)
        out = self.model(
            inputs_embeds=torch.cat([words, prompt], 1),
            attention_mask=seen,
            logits_to_keep=self._keep,
        )
        labels = torch.arange(len(rows)) % common.LABELS + 100
        loss = torch.nn.functional.cross_entropy(out.logits[:, -1].float(), labels)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()


if __name__ == "__main__":
    main()
