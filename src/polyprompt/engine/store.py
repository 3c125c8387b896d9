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
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from polyprompt.engine.memory import is_out_of_memory
from polyprompt.models.values import Frozen

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

    def to(self, devices: Sequence[torch.device]) -> "_Row":
        """Copy every layer to its device, and the rest to the last."""
        layers = tuple(layer.to(d) for layer, d in zip(self.layers, devices[:-1], strict=True))
        return _Row(layers, self.hidden.to(devices[-1]), self.positions.to(devices[-1]))


class FrozenStore:
    """A dictionary of rows that takes no more when its budgets are spent."""

    def __init__(self, budget: Budget) -> None:
        """Keep rows within a budget."""
        self._budget = budget
        self._rows: dict[Key, _Row | Path] = {}
        self._folder: Path | None = None
        self._devices: tuple[torch.device, ...] = ()
        self._open = [tier for tier in ("device", "host", "disk") if getattr(budget, tier)]
        self.bytes = {"device": 0, "host": 0, "disk": 0}

    @property
    def is_full(self) -> bool:
        """Say whether nothing more is taken."""
        return not self._open

    def __contains__(self, key: Key) -> bool:
        """Say whether an input is kept."""
        return key in self._rows

    def __len__(self) -> int:
        """Count the inputs kept."""
        return len(self._rows)

    def add(self, keys: Sequence[Key], frozen: Frozen) -> None:
        """Keep the rows that there is room for, copied out of their batch.

        A tier whose real memory or disk runs out before its budget does is full, too.
        """
        self._devices = (*(key.device for key, _ in frozen.layers), frozen.hidden.device)
        for index, (key, size) in enumerate(zip(keys, frozen.mask.sum(1).tolist(), strict=True)):
            if key not in self._rows and not self._add(key, frozen, index, size):
                return

    def clear(self) -> None:
        """Let go of everything, and take rows again."""
        for row in self._rows.values():
            if isinstance(row, Path):
                row.unlink(missing_ok=True)
        self._rows.clear()
        self.bytes = dict.fromkeys(self.bytes, 0)
        self._open = [tier for tier in self.bytes if getattr(self._budget, tier)]

    def _add(self, key: Key, frozen: Frozen, index: int, size: int) -> bool:
        """Keep one row where there is room; returns whether there was."""
        while self._open:
            tier, kept, needed = self._open[0], None, 0
            try:
                row = _row(frozen, index, size)
                kept, needed = self._kept(key, row, tier)
            except (OSError, RuntimeError, MemoryError) as error:
                if not isinstance(error, OSError) and not is_out_of_memory(error):
                    raise
            if kept is not None:
                self._rows[key] = kept
                self.bytes[tier] += needed
                return True
            self._open.remove(tier)
        return False

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
                found[key] = self._fetched(self._rows[key])
        rows = [found[key] for key in keys]
        sizes = torch.tensor([len(row.hidden) for row in rows])
        width = max(1, int(sizes.max()))
        layers = []
        for layer in range(len(rows[0].layers)):
            both = _stack([row.layers[layer] for row in rows], width)
            layers.append((both[:, 0], both[:, 1]))
        hidden = _stack([row.hidden for row in rows], width)
        mask = torch.arange(width)[None] < sizes[:, None]
        positions = _stack([row.positions[:, None] for row in rows], width)[..., 0]
        return Frozen(tuple(layers), hidden, mask.to(device), positions)

    def _kept(self, key: Key, row: _Row, tier: str) -> tuple[_Row | Path | None, int]:
        """Put a row into a tier; returns what stands for it, None without room, and its bytes."""
        room = getattr(self._budget, tier) - self.bytes[tier]
        on_cpu = row.hidden.device.type == "cpu"
        if row.bytes > room or (tier == "host" and on_cpu):
            return None, 0
        if tier == "device":
            return row, row.bytes
        row = row.to([torch.device("cpu")] * (len(row.layers) + 1))
        if tier == "host":
            return row, row.bytes
        path = self._path(key)
        tensors = {f"layer.{index:05d}": layer for index, layer in enumerate(row.layers)}
        try:
            save_file(tensors | {"hidden": row.hidden, "positions": row.positions}, path)
            if path.stat().st_size <= room:
                return path, path.stat().st_size
        except SafetensorError as error:
            path.unlink(missing_ok=True)
            raise OSError(str(error)) from error
        path.unlink()
        return None, 0

    def _path(self, key: Key) -> Path:
        """Name a row's file, in a folder that goes with the store."""
        if self._folder is None:
            self._folder = Path(mkdtemp(prefix="polyprompt-", dir=self._budget.folder))
            finalize(self, rmtree, self._folder, ignore_errors=True)
        name = sha256(b"\0".join((key[0].encode(), key[1], key[2]))).hexdigest()
        return self._folder / f"{name}.safetensors"

    def _fetched(self, row: _Row | Path) -> _Row:
        """Bring a row's layers to the devices that compute them."""
        if isinstance(row, Path):
            found = load_file(os.fspath(row))
            hidden, positions = found.pop("hidden"), found.pop("positions")
            row = _Row(tuple(found[name] for name in sorted(found)), hidden, positions)
        return row if row.hidden.device == self._devices[-1] else row.to(self._devices)


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
