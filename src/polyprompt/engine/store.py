"""Keeps what a frozen backbone computed of inputs: on its device, in memory, or on disk.

Every tier has a byte budget. A key names everything that the value depends on.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from weakref import finalize

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polyprompt.models.backbone import Frozen

Key = tuple[str, bytes, bytes]


@dataclass(frozen=True)
class Budget:
    """Most bytes of kept tensors.

    Attributes:
        device: On the backbone's device; on a CPU that is the computer's memory.
        host: In the computer's memory, for backbones on another device.
        disk: In a temporary folder that is deleted when the store is.
        folder: Where that folder is made; None for the system's place.
    """

    device: int
    host: int = 0
    disk: int = 0
    folder: Path | None = None


DEFAULT_BUDGET = Budget(device=2 * 1024**3)


@dataclass(frozen=True)
class _Row:
    """One input's keys, values and states, without padding.

    Attributes:
        layers: Keys and values of each layer, 2 J T K.
        hidden: Last-layer states, T D.
        positions: T.
    """

    layers: tuple[Tensor, ...]
    hidden: Tensor
    positions: Tensor

    @property
    def bytes(self) -> int:
        """Memory of the row's tensors."""
        return sum(t.nbytes for t in (*self.layers, self.hidden, self.positions))

    def to(self, device: torch.device) -> "_Row":
        """Copy to a device."""
        layers = tuple(layer.to(device, non_blocking=True) for layer in self.layers)
        return _Row(layers, self.hidden.to(device), self.positions.to(device))


class FrozenStore:
    """A dictionary of rows that takes no more when its budgets are spent."""

    def __init__(self, budget: Budget) -> None:
        """Keep rows within a budget."""
        self._budget = budget
        self._rows: dict[Key, _Row | Path] = {}
        self._folder: Path | None = None
        self.bytes = {"device": 0, "host": 0, "disk": 0}
        self.is_full = not (budget.device or budget.host or budget.disk)

    def __contains__(self, key: Key) -> bool:
        """Say whether an input is kept."""
        return key in self._rows

    def __len__(self) -> int:
        """Count the inputs kept."""
        return len(self._rows)

    def add(self, keys: Sequence[Key], frozen: Frozen) -> None:
        """Keep the rows that the budgets have room for, copied out of their batch."""
        for index, (key, size) in enumerate(zip(keys, frozen.mask.sum(1).tolist(), strict=True)):
            if key in self._rows:
                continue
            row = _row(frozen, index, size)
            tier = self._tier(row)
            if tier is None:
                self.is_full = True
                return
            self._rows[key] = self._kept(key, row, tier)
            self.bytes[tier] += row.bytes

    def batch(
        self,
        keys: Sequence[Key],
        device: torch.device,
        others: Sequence[Key] = (),
        computed: Frozen | None = None,
    ) -> Frozen:
        """Put rows together again, padded on the right.

        Args:
            keys: The rows that are wanted; one may come several times.
            device: Where.
            others: Rows that are not kept.
            computed: These, as a batch.

        Raises:
            KeyError: One of them is neither kept nor given.
        """
        found: dict[Key, _Row] = {}
        if computed is not None:
            lengths = computed.mask.sum(1).tolist()
            for index, (key, size) in enumerate(zip(others, lengths, strict=True)):
                found[key] = _row(computed, index, size)
        for key in keys:
            if key not in found:
                found[key] = self._fetched(self._rows[key], device)
        rows = [found[key] for key in keys]
        sizes = torch.tensor([len(row.hidden) for row in rows])
        width = int(sizes.max())
        layers = []
        for layer in range(len(rows[0].layers)):
            both = _stack([row.layers[layer] for row in rows], width)
            layers.append((both[:, 0], both[:, 1]))
        hidden = _stack([row.hidden for row in rows], width)
        mask = torch.arange(width)[None] < sizes[:, None]
        positions = _stack([row.positions[:, None] for row in rows], width)[..., 0]
        return Frozen(tuple(layers), hidden, mask.to(device), positions)

    def _tier(self, row: _Row) -> str | None:
        """Find the first tier with room for a row."""
        on_cpu = row.hidden.device.type == "cpu"
        for tier in ("device", "host", "disk"):
            if on_cpu and tier == "host":
                continue
            if self.bytes[tier] + row.bytes <= getattr(self._budget, tier):
                return tier
        return None

    def _kept(self, key: Key, row: _Row, tier: str) -> _Row | Path:
        """Put a row into its tier."""
        if tier == "device":
            return row
        row = row.to(torch.device("cpu"))
        if tier == "host":
            return row
        if self._folder is None:
            self._folder = Path(mkdtemp(prefix="polyprompt-", dir=self._budget.folder))
            finalize(self, rmtree, self._folder, ignore_errors=True)
        name = sha256(b"\0".join((key[0].encode(), key[1], key[2]))).hexdigest()
        path = self._folder / f"{name}.safetensors"
        tensors = {f"layer.{index:05d}": layer for index, layer in enumerate(row.layers)}
        save_file(tensors | {"hidden": row.hidden, "positions": row.positions}, path)
        return path

    @staticmethod
    def _fetched(row: _Row | Path, device: torch.device) -> _Row:
        """Bring a row to the device that computes."""
        if isinstance(row, Path):
            found = load_file(os.fspath(row))
            hidden, positions = found.pop("hidden"), found.pop("positions")
            row = _Row(tuple(found[name] for name in sorted(found)), hidden, positions)
        return row if row.hidden.device == device else row.to(device)


def _row(frozen: Frozen, index: int, size: int) -> _Row:
    """Copy one input out of a batch, without its padding."""
    return _Row(
        tuple(torch.stack((k[index, :, :size], v[index, :, :size])) for k, v in frozen.layers),
        frozen.hidden[index, :size].clone(),
        frozen.positions[index, :size].clone(),
    )


def _stack(rows: Sequence[Tensor], width: int) -> Tensor:
    """Stack tensors along a new first axis, their second-last axis filled with zeros."""
    *lead, _, last = rows[0].shape
    out = rows[0].new_zeros((len(rows), *lead, width, last))
    for index, row in enumerate(rows):
        out[index, ..., : row.shape[-2], :] = row
    return out
