"""The cached engine: frozen tokens are computed once, a pass computes the live ones only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from polyprompt.data.batching import packs
from polyprompt.data.encoded import Encoded
from polyprompt.engine.arrangement import Arranged, Shape, arrange, plain
from polyprompt.engine.beside import beside
from polyprompt.engine.engine import Engine, Prompts
from polyprompt.engine.live import Live
from polyprompt.engine.memory import Allowance, in_batches
from polyprompt.engine.store import DEFAULT_BUDGET, Budget, FrozenStore, Key
from polyprompt.families import Attention
from polyprompt.heads.head import States
from polyprompt.models.backbone import Backbone
from polyprompt.models.blocks import lay_out
from polyprompt.models.values import Beside, Frozen, Part

ROWS_PER_PART = 32
"""Rows of a training step that attention computes together, padded to the longest text of them."""

KEPT_TOGETHER = 4096
"""Inputs among which those of similar length are encoded together."""

TOKENS_SIDE_BY_SIDE = 384
"""Live tokens of several inputs behind one prefix in a padded pass, where each sees the others'
columns in vain."""


@dataclass(frozen=True)
class _Reading:
    """Some of a pass.

    Attributes:
        frozen: Of inputs.
        live: Tokens of the runs that read them.
        beside: Deep prompts of these runs; None for none.
    """

    frozen: Frozen
    live: Live
    beside: Beside | None = None


class CachedEngine(Engine):
    """Encodes the frozen tokens of an input once and extends them by the live tokens of runs.

    Inputs given to ``keep`` are held under the byte budget; others are encoded when read.
    """

    def __init__(
        self,
        backbone: Backbone,
        budget: Budget = DEFAULT_BUDGET,
        branches: Sequence[Sequence[int]] = (),
        allowance: Allowance | None = None,
    ) -> None:
        """Compute on a backbone.

        Args:
            backbone: Its attention must leave something frozen.
            budget: Most bytes of kept keys, values and states, and where.
            branches: Continuations of every input.
            allowance: How much is computed at once.
        """
        super().__init__(backbone, branches, allowance)
        self.store = FrozenStore(budget)

    def keep(self, inputs: Sequence[Encoded], shape: Shape) -> None:
        """Encode inputs that will be read many times, sorted by length, as far as memory goes."""
        for start in range(0, len(inputs), KEPT_TOGETHER):
            if self.store.is_full:
                return
            some = inputs[start : start + KEPT_TOGETHER]
            for variant in dict.fromkeys(encoded.variant for encoded in some):
                own = [encoded for encoded in some if encoded.variant == variant]
                with self.backbone.reading_as(variant):
                    self._keep_together(own, shape)

    def _keep_together(self, inputs: Sequence[Encoded], shape: Shape) -> None:
        """Encode inputs of one variant, those of similar length together."""
        arranged = [arrange(encoded, shape, self._attention) for encoded in inputs]
        sizes = [int(row.frozen.sum()) for row in arranged]
        for _ in in_batches(self.allowance, sizes, partial(self._keep_of, arranged)):
            pass

    def _keep_of(self, arranged: Sequence[Arranged], rows: Sequence[int]) -> None:
        """Keep some of several rows."""
        self._keep([arranged[row] for row in rows])

    def _keep(self, rows: Sequence[Arranged]) -> None:
        """Encode inputs together and keep them, unless they are kept or there is no room."""
        new = {self._key(row): row for row in rows}
        new = {key: row for key, row in new.items() if key not in self.store}
        if new and not self.store.is_full:
            self.store.add(list(new), self._encode(list(new.values())))

    def _each(self, inputs: Sequence[Encoded], runs: Sequence[int], prompts: Prompts) -> States:
        """Read input i with the prompts of run ``runs[i]``."""
        shapes = prompts.shapes
        rows = [
            arrange(encoded, shapes[run], self._attention)
            for encoded, run in zip(inputs, runs, strict=True)
        ]
        starts = prompts.starts()
        sizes = [(int((~row.frozen).sum()), int(row.frozen.sum())) for row in rows]
        parts, order = [], []
        for group in groups_of_similar_size(sizes):
            some = [rows[index] for index in group]
            at_rows = [[starts[runs[index]]] for index in group]
            live = Live.of([[row] for row in some], at_rows, self.branches)
            deep = beside(prompts, [[run] for run in map(runs.__getitem__, group)], live, some)
            parts.append(_Reading(self._frozen(some), live, deep))
            order += group
        states = States.joined(self._read(parts, torch.cat(prompts.vectors)))
        return states.rows(np.argsort(order).tolist())

    def _every(self, inputs: Sequence[Encoded], prompts: Prompts) -> States:
        """Read every input with every run's prompts, runs with one frozen part in one pass."""
        rows = [
            [arrange(encoded, shape, self._attention) for encoded in inputs]
            for shape in prompts.shapes
        ]
        table = torch.cat(prompts.vectors)
        states: dict[int, States] = {}
        for runs in self._with_one_frozen_part(rows):
            groups = self._by_length(rows, runs)
            frozen = self._frozen(rows[runs[0]])
            parts = [self._reading(frozen, rows, group, prompts) for group in groups]
            for group, read in zip(groups, self._read(parts, table), strict=True):
                states |= zip(group, read.lots(len(inputs)), strict=True)
        return States.joined([states[run] for run in range(len(prompts))])

    def fronts(self, inputs: Sequence[Encoded], prompts: Prompts) -> tuple[list[Arranged], Frozen]:
        """Lay inputs out, and give their frozen part, as it is kept or computed now."""
        rows = [arrange(encoded, prompts.shapes[0], self._attention) for encoded in inputs]
        return rows, self._frozen(rows)

    @staticmethod
    def _by_length(rows: Sequence[Sequence[Arranged]], runs: Sequence[int]) -> list[list[int]]:
        """Divide runs by their live tokens; rows are R × B."""
        sizes = [(int((~rows[run][0].frozen).sum()), 0) for run in runs]
        return [[runs[i] for i in group] for group in groups_of_similar_size(sizes, len(runs))]

    def _reading(
        self,
        frozen: Frozen,
        rows: Sequence[Sequence[Arranged]],
        runs: Sequence[int],
        prompts: Prompts,
    ) -> _Reading:
        """Collect the live tokens of every input under some runs; rows are R × B."""
        starts = prompts.starts()
        of_inputs = list(zip(*(rows[run] for run in runs), strict=True))
        at_rows = [[starts[run] for run in runs]] * len(of_inputs)
        live = Live.of(of_inputs, at_rows, self.branches)
        deep = beside(prompts, [runs] * len(of_inputs), live, [row for row, *_ in of_inputs])
        return _Reading(frozen, live, deep)

    @torch.no_grad()
    def behind(self, prefix: Sequence[int], inputs: Sequence[Encoded]) -> States:
        """Encode the prefix once; inputs stand side by side behind it and do not see each other."""
        codes = np.asarray(prefix, dtype=np.int64)
        front = plain(codes, frozen=True)
        key, frozen = self._key(front), self._frozen([front])
        if key not in self.store and not self.store.is_full:
            self.store.add([key], frozen)
        words = [np.concatenate(one.hard) for one in inputs]
        pairs = zip(words, inputs, strict=True)
        rows = [plain(own, frozen=False, tails=one.continuations) for own, one in pairs]
        nothing = Prompts((), ()).and_bare(self.backbone).vectors[0]
        parts = []
        budget = self.allowance.tokens if self.backbone.packs else TOKENS_SIDE_BY_SIDE
        for pack in packs([one.tokens + one.continued for one in inputs], budget):
            beside = rows[pack]
            live = Live.of([beside], [[0] * len(beside)], self.branches, len(codes))
            parts += self._read([_Reading(frozen, live)], nothing)
        return States.joined(parts)

    def _with_one_frozen_part(self, rows: Sequence[Sequence[Arranged]]) -> list[list[int]]:
        """Put runs together for which the frozen part of every input is the same."""
        groups: dict[tuple[Key, ...], list[int]] = {}
        for run, arranged in enumerate(rows):
            groups.setdefault(tuple(self._key(row) for row in arranged), []).append(run)
        return list(groups.values())

    @property
    def _attention(self) -> Attention:
        """How the backbone is run."""
        return self.backbone.facts.attention

    def _key(self, row: Arranged) -> Key:
        """Name everything that the frozen part of an input depends on."""
        codes, positions = row.part(frozen=True)
        facts = self.backbone.facts
        model = f"{facts.identity}/{self.backbone.dtype}/{facts.attention}/{self.backbone.variant}"
        return model, codes.tobytes(), positions.tobytes()

    def _encode(self, rows: Sequence[Arranged]) -> Frozen:
        """Compute the frozen part of inputs."""
        parts = [row.part(frozen=True) for row in rows]
        codes = np.concatenate([own for own, _ in parts])
        if not len(codes):
            return self._encode_nothing(len(rows))
        device, causal = self.backbone.device, self._attention is Attention.CAUSAL
        positions = np.concatenate([places for _, places in parts])
        blocks = lay_out([[len(own)] for own, _ in parts], positions, device, causal=causal)
        return self.backbone.encode(self.backbone.embed(torch.from_numpy(codes).to(device)), blocks)

    def _encode_nothing(self, inputs: int) -> Frozen:
        """Give inputs without frozen tokens: one column that nobody sees."""
        front = plain(np.zeros(1, dtype=np.int64), frozen=True)
        column = self._encode([front] * inputs)
        return replace(column, mask=torch.zeros_like(column.mask))

    def _frozen(self, rows: Sequence[Arranged]) -> Frozen:
        """Fetch the frozen part of inputs; what is not kept is computed, an input once."""
        keys = [self._key(row) for row in rows]
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in self.store}
        if not missing:
            return self.store.batch(keys, self.backbone.device)
        computed = self._encode(list(missing.values()))
        if len(missing) == len(rows):
            return computed
        return self.store.batch(keys, self.backbone.device, list(missing), computed)

    def _read(self, parts: Sequence[_Reading], table: Tensor) -> list[States]:
        """Extend frozen inputs by live tokens, all parts in one pass, and pool each part's.

        Args:
            parts: Inputs and the live tokens of all runs that read them.
            table: The vectors that codes of soft tokens name.
        """
        device, causal = self.backbone.device, self._attention.answers_in_order
        sizes = [len(part.live.codes) for part in parts]
        hidden = parts[0].frozen.hidden[0, :0]
        if sum(sizes):
            codes = np.concatenate([part.live.codes for part in parts])
            x = self.look_up(torch.from_numpy(codes).to(device), table)
            blocks = [
                Part(part.live.blocks(device, causal=causal), part.frozen, part.beside)
                for part in parts
            ]
            hidden = self.backbone.extend(x, [p for p in blocks if len(p.blocks.positions)])
        self.backbone.work.sentences += sum(len(row) for p in parts for row in p.live.sizes)
        pieces = zip(parts, hidden.split(sizes), strict=True)
        return [part.live.states(part.frozen, states) for part, states in pieces]


def groups_of_similar_size(
    sizes: Sequence[tuple[int, int]], most: int = ROWS_PER_PART
) -> list[list[int]]:
    """Divide rows so that attention pads them little: to twice their live tokens at the most.

    Args:
        sizes: Live and frozen tokens of each row.
        most: Rows of a group.

    Returns:
        The rows of each group; among rows with as many live tokens, those of similar text together.
    """
    order = sorted(range(len(sizes)), key=lambda row: (sizes[row][0].bit_length(), sizes[row][1]))
    groups: list[list[int]] = []
    for row in order:
        alike = groups and sizes[groups[-1][0]][0].bit_length() == sizes[row][0].bit_length()
        if alike and len(groups[-1]) < most:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
