"""Frozen parts of earlier runs, in place on a backbone."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from polyprompt.capabilities import RunSettings
from polyprompt.data.encoded import Sourced
from polyprompt.errors import DataError
from polyprompt.experiments.sourced import SourcedParts
from polyprompt.models.backbone import Backbone
from polyprompt.part_settings import BottleneckAdapterSettings
from polyprompt.tuning.adapter import OfLanguages, saved_adapter


class GivenParts:
    """The frozen parts of a group's runs: words for soft prompts, attachments for adapters."""

    def __init__(self, settings: RunSettings, sourced: SourcedParts) -> None:
        """Name the parts; nothing is read yet.

        Args:
            settings: Of a run.
            sourced: Where its frozen parts lie.
        """
        self._settings, self._files = settings, sourced.files
        self._places: list[tuple[Backbone, OfLanguages]] = []

    def put(self, backbone: Backbone) -> Sourced:
        """Put the parts in place.

        Returns:
            What inputs are read with, by their language.

        Raises:
            DataError: A file is broken, or of another backbone.
        """
        words: dict[str, Mapping[str, tuple[int, ...]]] = {}
        variants: set[str] = set()
        for name, files in self._files.items():
            part = self._settings.parts[name]
            if isinstance(part, BottleneckAdapterSettings):
                self._put_adapters(files, part, backbone)
                variants |= files.keys()
            else:
                words[name] = {
                    language: backbone.add_words(_prompt(path, backbone))
                    for language, path in files.items()
                }
        return Sourced(words, frozenset(variants))

    def put_beside(self, reader: Backbone, backbone: Backbone) -> None:
        """Put the parts in place on another copy, so that inputs mean the same there."""
        self.put(reader)
        backbone.share_words(reader)

    def take_away(self) -> None:
        """Leave the backbones as they were; words that were added are read by nobody else."""
        for backbone, attachment in self._places:
            backbone.attachments.take_away(attachment)
        self._places = []

    def _put_adapters(
        self, files: Mapping[str, Path], part: BottleneckAdapterSettings, backbone: Backbone
    ) -> None:
        """Put an adapter per language behind the sub-layers."""
        adapters = {}
        for path in dict.fromkeys(files.values()):
            tensors, facts = read_part(path)
            adapters[path] = saved_adapter(tensors, facts, part, backbone, str(path))
        of_languages = {language: adapters[path] for language, path in files.items()}
        attachment = OfLanguages(backbone, of_languages)
        backbone.attachments.put(attachment)
        self._places.append((backbone, attachment))


def read_part(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a saved part: its tensors, and what it says of itself.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("part", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(
            f"Cannot read the part {path}: {error}. Expected a safetensors file, as runs save it "
            "under parts/."
        ) from error


def _prompt(path: Path, backbone: Backbone) -> Tensor:
    """Read a saved soft prompt.

    Raises:
        DataError: It is none, or of another width.
    """
    tensors, _ = read_part(path)
    weight = tensors.get("weight")
    width = backbone.facts.width
    if weight is None or weight.dim() != 2 or weight.shape[1] != width:
        shape = None if weight is None else tuple(weight.shape)
        raise DataError(
            f"The soft prompt {path} does not fit: its vectors have the shape {shape}, expected "
            f"(length, {width}). It was saved for another backbone, or is no soft prompt."
        )
    return weight
