"""Seeded few-shot draws: per class, nested in k, from one or several source languages."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from polyprompt.errors import ConfigError, DataError
from polyprompt.records import Draw, Example
from polyprompt.seeds import generator


@dataclass(frozen=True)
class Sampling:
    """How examples are drawn.

    Attributes:
        shots: Examples per class in all source languages together (k), or ``all``.
        seed: Of the draw.
        temperature: None shares k equally among the source languages; T shares it in proportion
            to (rows of the language) ** (1 / T).
        article_gap: Least distance of drawn items from one another and from ``test_positions``.
        test_positions: Positions of the test items in their source texts.
        shares: Share of k that each source language gets; None for ``temperature``.
    """

    shots: int | Literal["all"]
    seed: int
    temperature: float | None = None
    article_gap: int | None = None
    test_positions: frozenset[int] = frozenset()
    shares: Mapping[str, float] | None = None


MOST_DEV_TEXTS = 100
"""Texts without labels that the state which is kept is chosen by."""

ANY = ""
"""The class of items whose words are tagged, or that have no label or one of their own: drawn as
they come."""


def class_of(example: Example) -> str | None:
    """Give the class that an example is drawn for."""
    return ANY if example.words or example.is_open or example.label is None else example.label


def classes_of(examples: Sequence[Example], labels: Sequence[str]) -> Sequence[str]:
    """Give the classes that examples are drawn for, in the order of the draw."""
    return (ANY,) if any(class_of(example) == ANY for example in examples) else labels


def dev_shots(shots: int) -> int:
    """Dev examples per class for k training examples: ceil(k / 4) (paper A)."""
    return -(-shots // 4)


def rarest(examples: Sequence[Example], labels: Sequence[str]) -> int:
    """Count the items of the class that has the fewest; one item counts once in all languages."""
    items = {(class_of(e), e.id) for e in examples}
    counts = Counter(label for label, _ in items)
    return min(counts[label] for label in labels)


def draw_examples(
    train: Sequence[Example], dev: Sequence[Example], labels: Sequence[str], sampling: Sampling
) -> Draw:
    """Draw a run's training and dev examples.

    Items whose words are tagged are drawn as they come, k in all.

    The draw of k is contained in the draw of k + 1 under the same seed. Without a dev split the
    dev examples are taken from what the training split has left.

    Raises:
        DataError: A class has fewer examples than asked for.
        ConfigError: An article gap is asked for and ids are no positions.
    """
    labels = classes_of(train, labels)
    if sampling.shots == "all":
        for label in labels:
            if not any(class_of(example) == label for example in train):
                raise DataError(f"The train split has no example of the class '{label}'.")
        return Draw(tuple(train), tuple(dev), f"all {len(train)} training examples")
    languages = tuple(dict.fromkeys(e.language for e in train))
    taken = set(sampling.test_positions) if sampling.article_gap else set()
    drawn = _draw_split(train, labels, sampling.shots, sampling, "train", taken)
    used = {e.id for e in drawn}
    pool = dev or [e for e in train if e.id not in used]
    wanted = dev_shots(sampling.shots)
    if train[0].label is None:
        wanted = min(wanted, MOST_DEV_TEXTS)
    # as paper A does, the dev split is balanced to its rarest class
    there = min(wanted, max(1, rarest(dev, labels))) if dev else wanted
    held_out = _draw_split(pool, labels, there, sampling, "dev", taken)
    note = f"{sampling.shots} {_counted(train[0])} from {', '.join(languages)}"
    if there < wanted:
        note += f" ({there} for dev, all that its rarest class has)"
    if sampling.article_gap:
        note += (
            f", items at least {sampling.article_gap} apart from one another and from test items"
        )
    return Draw(tuple(drawn), tuple(held_out), note)


def _counted(example: Example) -> str:
    """Say of what an example is one."""
    if class_of(example) != ANY:
        return "per class"
    return "sentences" if example.words else "texts"


def _too_few(
    have: int, label: str, sampling: Sampling, split: str, ran_out: tuple[int, str, int]
) -> DataError:
    """Say that a class has fewer examples than asked for.

    Args:
        have: Its examples.
        label: The class.
        sampling: For the gap between articles.
        split: Which is drawn from.
        ran_out: How many are asked for, which language had no more, after how many.
    """
    shots, language, drawn = ran_out
    what = "texts" if label == ANY else f"examples of the class '{label}'"
    asked = f"{shots} are" if label == ANY else f"{shots} per class are"
    advice = ", or shots=all." if split == "train" else "."
    return DataError(
        f"The {split} split has {have} {what}{_apart(sampling)}; {asked} asked for, and {language} "
        f"ran out after {drawn}. Set shots to {max(drawn, 1)} or less{advice}"
    )


def _draw_split(
    pool: Sequence[Example],
    labels: Sequence[str],
    shots: int,
    sampling: Sampling,
    split: str,
    taken: set[int],
) -> list[Example]:
    """Draw ``shots`` per class in rounds over the classes, so that draws are nested in shots."""
    if not pool:
        raise DataError(
            f"Nothing is left for the {split} split. Set shots to a smaller number, or shots=all."
        )
    queues = {label: _queue(pool, label, sampling, split) for label in labels}
    drawn: list[Example] = []
    ids: set[str] = set()
    for round_number in range(shots):
        for label in labels:
            language, rows = queues[label].turn(round_number)
            example = _next(rows, ids, taken, sampling.article_gap)
            if example is None:
                have = sum(class_of(e) == label for e in pool)
                ran_out = shots, language, round_number
                raise _too_few(have, label, sampling, split, ran_out)
            drawn.append(example)
            ids.add(example.id)
            if sampling.article_gap:
                taken.add(_position(example))
    return drawn


def _apart(sampling: Sampling) -> str:
    """Say in a message that the gap leaves fewer."""
    return f" (article_gap {sampling.article_gap})" if sampling.article_gap else ""


@dataclass(frozen=True)
class _Queue:
    """A class's examples in drawing order, per language, and whose turn it is in each round."""

    rows: dict[str, list[Example]]
    order: np.random.Generator
    weights: tuple[float, ...]
    turns: list[str]

    def turn(self, round_number: int) -> tuple[str, list[Example]]:
        """Give the language of a round and what is left of its rows.

        Turns are made one after the other (largest deficit first, ties by seeded rotation), so
        that the turns of k rounds begin those of k + 1.
        """
        names = list(self.rows)
        while len(self.turns) <= round_number:
            n = len(self.turns)
            counts = Counter(self.turns)
            deficit = [
                w * (n + 1) - counts[name] for name, w in zip(names, self.weights, strict=True)
            ]
            self.turns.append(names[int(np.argmax(np.round(deficit, 9)))])
        name = self.turns[round_number]
        return name, self.rows[name]


def _queue(pool: Sequence[Example], label: str, sampling: Sampling, split: str) -> _Queue:
    """Shuffle a class's examples per language and rotate the languages, by the draw's seed."""
    languages = list(dict.fromkeys(e.language for e in pool))
    order = generator(sampling.seed, "draw", split, label)
    start = int(order.integers(len(languages)))
    languages = languages[start:] + languages[:start]
    sizes = Counter(e.language for e in pool)
    power = 0.0 if sampling.temperature is None else 1 / sampling.temperature
    raw = np.array([sizes[name] ** power for name in languages], dtype=float)
    if sampling.shares is not None:
        raw = np.array([sampling.shares[name] for name in languages], dtype=float)
    rows = {}
    for name in languages:
        of_class = [e for e in pool if class_of(e) == label and e.language == name]
        within = generator(sampling.seed, "draw", split, label, name)
        rows[name] = [of_class[i] for i in within.permutation(len(of_class))]
    return _Queue(rows, order, tuple(raw / raw.sum()), [])


def _next(rows: list[Example], ids: set[str], taken: set[int], gap: int | None) -> Example | None:
    """Take the first row whose item is not drawn yet and far enough from the others."""
    while rows:
        example = rows.pop(0)
        if example.id in ids:
            continue
        if gap is None or all((_position(example) + d) not in taken for d in range(1 - gap, gap)):
            return example
    return None


def _position(example: Example) -> int:
    """Read an item's place in its source text from its id."""
    if not example.id.isdecimal():
        raise ConfigError(
            f"article_gap needs ids that are numbers; '{example.id}' is not one. Take article_gap "
            "out, or use a task whose ids are positions."
        )
    return int(example.id)


def positions(examples: Sequence[Example]) -> frozenset[int]:
    """Collect the positions of items in their source texts."""
    return frozenset(_position(example) for example in examples)
