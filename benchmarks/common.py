"""What all benchmarks share: weights, sentences, interleaved timing, composition of a whole run.

Every file runs both sides in one process on the same frozen weights and sentences, warms both up,
takes turns, and prints medians; a whole run is composed from them. The last line is ``ratio X``.
"""

import argparse
import ctypes
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, BloomConfig, BloomForCausalLM

from polyprompt.capabilities import TrainingSettings
from polyprompt.data.encoded import Encoded
from polyprompt.data.readers import read_task
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.memory import Allowance
from polyprompt.engine.store import Budget
from polyprompt.families import Attention
from polyprompt.head_settings import VerbalizerSettings
from polyprompt.heads.verbalizer import VerbalizerHead, Words
from polyprompt.models.backbone import BackboneFacts
from polyprompt.models.causal import CausalBackbone
from polyprompt.models.pypi import converted_folder
from polyprompt.tasks.card import load_card
from polyprompt.training.member import Member
from polyprompt.tuning.soft_prompt import SoftPrompt

EXAMPLES, BATCH, EPOCHS, PROMPT, LABELS = 56, 8, 20, 10, 7
STEPS = EPOCHS * EXAMPLES // BATCH
GEOMETRY = {"hidden_size": 1024, "n_layer": 24, "n_head": 16, "vocab_size": 250880}
"""BLOOM-560M's."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def begin(threads: int = 2) -> None:
    """Set what both sides share and say it."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {threads} threads, load {os.getloadavg()[0]:.1f}")


def bloom(dtype: torch.dtype = torch.float32, **sizes: int) -> BloomForCausalLM:
    """Make a decoder of BLOOM-560M's geometry with random weights."""
    torch.set_default_dtype(dtype)
    model = BloomForCausalLM(BloomConfig(**(GEOMETRY | sizes)))
    torch.set_default_dtype(torch.float32)
    return model.eval().requires_grad_(requires_grad=False)


def sentences(languages: tuple[str, ...] = ("eng_Latn",)) -> list[np.ndarray]:
    """Tokenize SIB-200's sentences where they are there, else sample_topics, by E5's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(converted_folder("multilingual-e5-small"))
    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / "sib200"
    name, where = ("sib200", str(folder)) if folder.is_dir() else ("sample_topics", None)
    data = read_task(load_card(name), where, languages, languages)
    texts = [e.fields["text"] for split in ("train", "test") for e in data.splits[split]]
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    print(f"sentences: {name}, {', '.join(languages)}")
    return [np.asarray(row, dtype=np.int64) for row in rows]


def wrapped(model: BloomForCausalLM) -> CausalBackbone:
    """Give our side the same weights."""
    tokenizer = AutoTokenizer.from_pretrained(converted_folder("multilingual-e5-small"))
    width = model.config.hidden_size
    facts = BackboneFacts("random", "random", Attention.CAUSAL, width, 2048, "", 0)
    return CausalBackbone(model, tokenizer, facts)


def encoded(ids: np.ndarray) -> Encoded:
    """Give a sentence with one slot behind it."""
    return Encoded((ids, ids[:0]), 0, 0, 0)


def members(
    backbone: CausalBackbone, texts: list[np.ndarray], lengths: list[int], draws: int | None = None
) -> list[Member]:
    """Make one run per prompt length, each with its own order and learning rate.

    Args:
        backbone: Of all.
        texts: To draw from.
        lengths: Of the runs' prompts.
        draws: How many sets of examples the runs share in turn; None for one of their own each.
    """
    words = Words(tuple((100 + label,) for label in range(LABELS)))
    head = VerbalizerHead(backbone, words, VerbalizerSettings())
    runs = []
    for run, length in enumerate(lengths):
        own = np.random.default_rng(run % (draws or len(lengths))).choice(
            len(texts), EXAMPLES, replace=False
        )
        runs.append(
            Member(
                parts={"task": SoftPrompt(_initial(length, backbone))},
                head=head,
                train=[encoded(texts[i]) for i in own],
                train_labels=torch.arange(EXAMPLES) % LABELS,
                dev=[],
                dev_labels=torch.zeros(0, dtype=torch.long),
                settings=TrainingSettings(learning_rate=0.01 * (run + 1), batch_size=BATCH),
                seed=run,
                width=backbone.facts.width,
            )
        )
    return runs


def _initial(length: int, backbone: CausalBackbone) -> torch.Tensor:
    """Draw a prompt's initial value."""
    return torch.randn(length, backbone.facts.width, device=backbone.device) * 0.02


def cached_engine(backbone: CausalBackbone) -> CachedEngine:
    """Give the engine with room for every example."""
    return CachedEngine(backbone, Budget(device=8 * 1024**3), allowance=Allowance(2048))


@dataclass(frozen=True)
class Cost:
    """Seconds of one step, median over its repetitions."""

    cpu: float
    wall: float


def take_turns(
    sides: Mapping[str, Callable[[], object]], turns: int = 5, warm_up: int = 1
) -> dict[str, Cost]:
    """Time every side's step, one after the other, several times."""
    seen: dict[str, list[Cost]] = {name: [] for name in sides}
    for turn in range(warm_up + turns):
        for name, step in sides.items():
            with clock() as cost:
                step()
            if turn >= warm_up:
                seen[name].append(cost[0])
    medians = {
        name: Cost(
            statistics.median(c.cpu for c in costs), statistics.median(c.wall for c in costs)
        )
        for name, costs in seen.items()
    }
    for name, cost in medians.items():
        print(f"{name:<48} {cost.cpu:8.3f} CPU s {cost.wall:8.3f} s")
    return medians


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what all comparisons can be asked."""
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument(
        "--documented-only",
        action="store_true",
        help="leave out logits_to_keep=1, whose strided product takes minutes in bfloat16 on CPUs",
    )


def total(costs: Iterable[Cost]) -> Cost:
    """Add up."""
    costs = list(costs)
    return Cost(sum(c.cpu for c in costs), sum(c.wall for c in costs))


@contextmanager
def clock() -> Iterator[list[Cost]]:
    """Time what is inside; the list holds the result afterwards."""
    found: list[Cost] = []
    cpu, wall = time.process_time(), time.perf_counter()
    yield found
    found.append(Cost(time.process_time() - cpu, time.perf_counter() - wall))


@contextmanager
def peak_memory(name: str) -> Iterator[None]:
    """Print the most memory above what was held before, where the system tells it.

    What earlier work has freed is given back first, so that it does not hide what comes.
    """
    status = Path("/proc/self/status")
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _kibibytes(status, "VmRSS")
    except (OSError, AttributeError):
        yield
        return
    yield
    print(f"{name:<48} {(_kibibytes(status, 'VmHWM') - before) / 1024:8.0f} MiB at the peak")


def _kibibytes(status: Path, key: str) -> int:
    """Read one of the process's sizes."""
    lines = status.read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def operations_ratio(text: float, prompt: int, body: int, head: int) -> float:
    """Count multiplications: whole pass with LM head against live positions alone."""
    return (text + prompt) * (body + head) / (prompt * body)
