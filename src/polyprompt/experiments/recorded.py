"""Writes down what ``record`` asks for: layer states, attention and the prompt's path.

Analysis reads the arrays; nothing here interprets them.

Axes: N items, E layer states, D width, L layers, H heads, C checkpoints of a path (the start and
every epoch's end), P soft tokens, W nearest words.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from polyprompt.data.encoded import Encoded
from polyprompt.engine.inside import look_inside
from polyprompt.experiments.assemble import Group
from polyprompt.experiments.events import Event
from polyprompt.experiments.plan import GroupPlan
from polyprompt.experiments.store import RunFolder
from polyprompt.models.backbone import Backbone
from polyprompt.records import Example, StepRecord
from polyprompt.training.member import Member, prompts_of

NEAREST = 3
_ROWS = 65536


class PromptPath:
    """The soft tokens of one run at the start and at the end of every epoch."""

    name = "prompt_path"

    def __init__(self, backbone: Backbone) -> None:
        """Begin with nothing noted; the backbone's words are those that prompts are near to."""
        self._backbone = backbone
        self._epochs: list[float] = []
        self._vectors: list[np.ndarray] = []

    def expects(self, member: Member) -> bool:
        """Say whether something is noted of a run's start."""
        return bool(member.prompts)

    def note(self, record: StepRecord, member: Member) -> None:
        """Keep a copy of the prompt, if the step has ended an epoch, or the run."""
        if not member.prompts or (record.epoch % 1 and record.step != member.steps):
            return
        self._epochs.append(record.epoch)
        self._vectors.append(_prompt(member))

    def arrays(self) -> dict[str, np.ndarray]:
        """Give what was noted so far, for ``take_up``."""
        if not self._epochs:
            return {}
        return {"epochs": np.array(self._epochs), "vectors": np.stack(self._vectors)}

    def take_up(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what ``arrays`` gave."""
        self._epochs = arrays["epochs"].tolist() if arrays else []
        self._vectors = list(arrays["vectors"]) if arrays else []

    def write(self, folder: RunFolder, member: Member) -> None:
        """Write epochs (C), vectors (C P D), which was kept, and the words nearest to both ends.

        The run has ended, and its prompt is the kept one.

        ``nearest`` and ``cosines`` are 2 P W: of the start and of the kept checkpoint. The words
        themselves stand in ``prompt_words.parquet``.
        """
        if not self._epochs:
            folder.write_prompt_words([])
            folder.write_arrays("prompt_path", {"epochs": np.zeros(0)})
            return
        backbone, vectors = self._backbone, np.stack(self._vectors)
        kept = int(np.abs(vectors - _prompt(member)).max((1, 2)).argmin())
        ends = torch.from_numpy(vectors[[0, kept]])
        nearest = [nearest_words(backbone.table, one.to(backbone.device)) for one in ends]
        ids = np.stack([found for found, _ in nearest])
        cosines = np.stack([cosine for _, cosine in nearest])
        arrays = {"epochs": np.array(self._epochs), "vectors": vectors, "kept": np.array([kept])}
        words = backbone.tokenizer.convert_ids_to_tokens(ids.flatten().tolist())
        folder.write_prompt_words([str(word) for word in words])
        folder.write_arrays("prompt_path", arrays | {"nearest": ids, "cosines": cosines})


def _prompt(member: Member) -> Float[np.ndarray, "P D"]:
    """Copy a run's soft tokens as they are now."""
    with torch.no_grad():
        return prompts_of([member]).vectors[0].detach().float().cpu().numpy().copy()


@torch.no_grad()
def nearest_words(
    table: Float[Tensor, "V D"], vectors: Float[Tensor, "P D"]
) -> tuple[np.ndarray, np.ndarray]:
    """Find the words whose embeddings have the greatest cosine with vectors.

    Returns:
        Token ids and cosines, P W each, the nearest first.
    """
    unit = torch.nn.functional.normalize(vectors.float(), dim=1)
    best = torch.full((len(unit), 0), -2.0, device=unit.device)
    ids = torch.zeros((len(unit), 0), dtype=torch.long, device=unit.device)
    for start in range(0, len(table), _ROWS):
        rows = torch.nn.functional.normalize(table[start : start + _ROWS].float(), dim=1)
        cosines = unit @ rows.to(unit.device).T
        numbers = torch.arange(start, start + len(rows), device=unit.device)
        best = torch.cat([best, cosines], dim=1)
        ids = torch.cat([ids, numbers.expand(len(unit), -1)], dim=1)
        best, where = best.topk(min(NEAREST, best.shape[1]), dim=1)
        ids = ids.gather(1, where)
    return ids.cpu().numpy(), best.cpu().numpy()


def record_inside(
    plan: GroupPlan,
    group: Group,
    folders: Mapping[int, RunFolder],
    examples: Sequence[Example],
    inputs: Sequence[Encoded],
) -> Iterator[Event]:
    """Write the layer states and the attention of the runs that ask for them.

    Args:
        plan: The group's.
        group: Trained, on the copy of its backbone that reads.
        folders: Of the runs that are not done, by the run's number in its group.
        examples: The test items.
        inputs: The same, encoded, and perhaps others behind them.

    Yields:
        Progress.
    """
    prompts = prompts_of(group.members)
    for index, folder in folders.items():
        run = plan.runs[index]
        wanted = set(run.settings.record) & {"states", "attention"}
        if not wanted:
            continue
        yield Event("record", index, len(plan.runs))
        rows = chosen_items(examples, run.settings.record_items, parallel=plan.card.parallel)
        some = [inputs[row] for row in rows]
        looked = look_inside(group.engine, some, prompts.vectors[index], prompts.lengths[index])
        languages = [examples[row].language for row in rows]
        ids = [examples[row].id for row in rows]
        folder.write_recorded_items(pl.DataFrame({"language": languages, "id": ids}))
        if "states" in wanted:
            states = scaled("text", looked.text) | scaled("answer", looked.answer)
            folder.write_arrays("states", states)
        if "attention" in wanted:
            folder.write_arrays("attention", {"weights": looked.attention.astype(np.float16)})


def scaled(name: str, states: Float[np.ndarray, "N E D"]) -> dict[str, np.ndarray]:
    """Store states in half precision, each layer divided by its largest number.

    Returns:
        The states, and under ``NAME_scale`` the E numbers to multiply them with.
    """
    largest = np.maximum(np.abs(states).max((0, 2)), np.finfo(np.float32).tiny)
    scale = largest.astype(np.float32)
    return {
        name: (states / scale[None, :, None]).astype(np.float16),
        f"{name}_scale": scale,
    }


def chosen_items(examples: Sequence[Example], limit: int, *, parallel: bool) -> list[int]:
    """Choose up to ``limit`` items of each language; of parallel tasks those that all have.

    Returns:
        Their rows, in order.
    """
    languages = len({example.language for example in examples})
    counts = Counter(example.id for example in {(e.language, e.id): e for e in examples}.values())
    common = [name for name, number in counts.items() if number == languages or not parallel]
    wanted = set(common[:limit])
    taken: Counter[str] = Counter()
    rows = []
    for row, example in enumerate(examples):
        if parallel and example.id not in wanted:
            continue
        if taken[example.language] < limit:
            taken[example.language] += 1
            rows.append(row)
    return rows
