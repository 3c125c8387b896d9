"""The frozen half of Table 4 of Philippy et al. (2024) on one GPU, from loaded weights to answers.

Four seeds train together on 8 examples of each of 7 classes, then read 204 sentences in each of the
table's 52 languages; bfloat16, random weights of each model's geometry. PEFT trains one seed after
another and reads with one prompt after another: a few of its steps and batches are timed and
multiplied.

``python benchmarks/table4_gpu.py [--device cuda] [--geometry NAME …] [--languages N] [--turns N]``
"""

import argparse
import time
from pathlib import Path

import common
import numpy as np
import torch
import yaml
from evaluate_vs_peft import read
from peft import PromptTuningConfig, TaskType, get_peft_model
from train_vs_peft import PeftStep
from transformers import BloomConfig, BloomForCausalLM, XGLMConfig, XGLMForCausalLM

from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.memory import Allowance
from polyprompt.engine.store import Budget
from polyprompt.models.work import peak_multiplications
from polyprompt.prediction.predict import answer
from polyprompt.training.loop import train
from polyprompt.training.member import prompts_of

SEEDS, PER_LANGUAGE = 4, 204
STUDY = Path(__file__).resolve().parents[1] / "configs" / "sib200_gemma.yaml"
LANGUAGES = yaml.safe_load(STUDY.read_text(encoding="utf-8"))["targets"]
XGLM = {"ffn_dim": 4096, "num_layers": 24, "attention_heads": 16, "vocab_size": 256008}
GEOMETRIES = {
    "bloom-560m": lambda: BloomForCausalLM(BloomConfig(**common.GEOMETRY)),
    "xglm-564m": lambda: XGLMForCausalLM(XGLMConfig(d_model=1024, **XGLM)),
    "xglm-1.7b": lambda: XGLMForCausalLM(XGLMConfig(d_model=2048, **(XGLM | {"ffn_dim": 8192}))),
    "tiny": lambda: BloomForCausalLM(
        BloomConfig(hidden_size=64, n_layer=2, n_head=4, vocab_size=250880)
    ),
}


def main() -> None:
    """Run every geometry."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--geometry", nargs="+", choices=GEOMETRIES, default=list(GEOMETRIES)[:3])
    parser.add_argument("--languages", type=int, default=len(LANGUAGES))
    parser.add_argument("--turns", type=int, default=5, help="of PEFT's steps and batches")
    given = parser.parse_args()
    device = torch.device(given.device)
    train_texts = common.sentences()
    rows = [t for name in LANGUAGES[: given.languages] for t in sentences_of(name)]
    print(
        f"{len(rows)} sentences, {sum(map(len, rows))} tokens, {SEEDS} seeds on {name_of(device)}"
    )
    peak = peak_multiplications(device, torch.bfloat16, rows=8192)
    print(f"bfloat16 products: {2 * peak / 1e12:.2f} TFLOP/s measured")
    for geometry in given.geometry:
        one(geometry, device, train_texts, rows, peak, given.turns)


def sentences_of(language: str) -> list[np.ndarray]:
    """Give a language's test sentences."""
    return common.sentences((language,))[-PER_LANGUAGE:]


def name_of(device: torch.device) -> str:
    """Say what computes."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"


def one(
    geometry: str,
    device: torch.device,
    train_texts: list[np.ndarray],
    rows: list[np.ndarray],
    peak: float,
    turns: int,
) -> None:
    """Time both sides on one geometry."""
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = GEOMETRIES[geometry]().eval().requires_grad_(requires_grad=False)
    torch.set_default_dtype(torch.float32)
    backbone = common.wrapped(model)
    members = common.members(backbone, train_texts, [common.PROMPT] * SEEDS)
    engine = CachedEngine(backbone, Budget(device=16 * 1024**3), allowance=Allowance(32768))
    inputs = [common.encoded(text) for text in rows]
    before = backbone.work.since(type(backbone.work)())
    began = now(device)
    for _ in train(engine, members):
        pass
    trained = now(device)
    heads = [member.head for member in members]
    for _ in answer(engine, prompts_of(members), heads, inputs, bare=False):
        pass
    ours, work = now(device) - began, backbone.work.since(before)
    print(
        f"{geometry}: {ours:.1f} s after loading ({trained - began:.1f} s training), "
        f"{work.tokens / ours:.0f} tokens/s, {work.multiplications / ours / peak:.0%} of the peak"
    )
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=common.PROMPT)
    peft = get_peft_model(model, config).to(device)
    for keep in (0, 1):
        step = per_call(PeftStep(peft, train_texts, keep=keep), device, turns)
        few = rows[:: max(1, len(rows) // (8 * common.BATCH))][: 8 * common.BATCH]
        batch = per_call(lambda keep=keep, few=few: read(peft, few, keep=keep), device, turns) / 8
        batches = len(rows) / common.BATCH
        whole = SEEDS * (common.STEPS * step + batches * batch)
        print(
            f"PEFT{', logits_to_keep=1' if keep else ''}: {SEEDS} × ({common.STEPS} × {step:.3f} + "
            f"{batches:.0f} × {batch:.3f}) = {whole:.0f} s; ratio {whole / ours:.1f}"
        )


def now(device: torch.device) -> float:
    """Give the time when everything asked for is computed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def per_call(call, device: torch.device, turns: int) -> float:
    """Time a call in several turns, after one to warm up."""
    call()
    began = now(device)
    for _ in range(turns):
        call()
    return (now(device) - began) / turns


if __name__ == "__main__":
    main()
