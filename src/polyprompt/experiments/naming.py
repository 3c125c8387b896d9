"""Names that change whenever results would: of a run, of its data, of what a group shares."""

from pathlib import Path
from typing import Any

from polyprompt.capabilities import RunSettings
from polyprompt.data.readers import local_files
from polyprompt.experiments.compatibility import head_of
from polyprompt.experiments.sourced import NO_SOURCED_PARTS, SourcedParts
from polyprompt.fingerprint import file_sha256, fingerprint
from polyprompt.head_settings import GeneratorSettings, VerbalizerSettings
from polyprompt.models.locate import locate
from polyprompt.part_settings import LoraSettings
from polyprompt.tasks.card import TaskCard, load_card
from polyprompt.tasks.layout import Layout

RESULT_FORMAT = 2
"""Changes when the same settings would give other results."""

_OF_A_RUN = {
    "arm", "seed", "draw_seed", "train_seed", "shots", "article_gap", "training", "head", "source",
    "source_temperature", "source_shares",
}  # fmt: skip


_READ = {
    "kind", "piece", "max_pieces", "leading_space", "objective", "density", "mean_span",
}  # fmt: skip


def run_name(settings: RunSettings, contents: str, sourced: SourcedParts = NO_SOURCED_PARTS) -> str:
    """Fingerprint everything that changes a run's result."""
    value = settings.model_dump(mode="json")
    for key in ("data", "seed", "record", "record_items"):
        del value[key]
    for place in ("device", "device_map"):
        del value["backbone"][place]
    _leave_out(value["backbone"], quantization=None, autocast=None)
    del value["arm"]
    _leave_out(value, evaluate="test", source_shares=None, test_items=None, segmentation=None)
    _leave_out(value, instructions={})
    _leave_out(value["training"], learning_rates={}, optimiser="adamw")
    for part in value["parts"].values():
        _leave_out(part, reparameteriser=None, missing="error")
        if part["kind"] == "lora":
            _leave_out(part, initial={"kind": "zero", "path": None})
        if part.get("initial"):
            _leave_out(part["initial"], ends=False)
        part.pop("source", None)  # what lies there counts
    begun = [*settings.soft_prompts.values(), *settings.deep_prompts.values()]
    low_rank = [part for part in settings.parts.values() if isinstance(part, LoraSettings)]
    paths = [part.initial.path for part in (*begun, *settings.adapters.values(), *low_rank)]
    sums = [file_sha256(Path(path)) for path in paths if path]
    of_parts = sourced.contents()
    parts = [sums, of_parts] if of_parts else sums
    place = locate(settings.backbone)
    return fingerprint([value, contents, place.identity, parts, RESULT_FORMAT])


def data_identity(card: TaskCard, folder: str | None) -> str:
    """Name the contents of a task's card and files."""
    files = local_files(card, folder)
    sums = {split: file_sha256(path) for split, path in files.items()}
    value = card.model_dump(mode="json")
    _leave_out(value["columns"], values={}, choices=[], omit=[])
    _leave_out(value, held_out=False, positive="", form=None)
    if card.form is None:  # how its answers are written changes nothing elsewhere
        del value["written"]
    if value["hub"] is not None:
        _leave_out(value["hub"], source=None, codes={}, columns={}, ids_begin="")
    return fingerprint([value, sums])


def _leave_out(value: dict[str, Any], **defaults: Any) -> None:
    """Take out what is newer than results on disk, which keep their names, unless it is set."""
    for key, default in defaults.items():
        if key in value and value[key] == default:
            del value[key]


def group_key(
    settings: RunSettings, layout: Layout, name: str, sourced: SourcedParts = NO_SOURCED_PARTS
) -> str:
    """Name what all runs of a group have in common.

    Args:
        settings: Of a run, complete.
        layout: Its own.
        name: The run's; one that trains weights is alone in its group.
        sourced: Its frozen parts.
    """
    value: dict[str, Any] = settings.model_dump(mode="json")
    for setting in _OF_A_RUN:
        del value[setting]
    value["parts"] = sorted(value["parts"])
    head = head_of(settings)
    if isinstance(head, VerbalizerSettings):
        value["words"] = [head.words, head.leading_space, head.several_pieces]
    value["optimiser"] = settings.training.optimiser
    settled = {name: part.model_dump(mode="json") for name, part in settings.sourced.items()}
    value["sourced"] = [sourced.contents(), settled]
    value["layout"] = [*(repr(run) for run in layout.hard_runs()), layout.decoder_run]
    value["kinds"] = sorted(
        f"{part_name} {part.kind} {getattr(part, 'position', '')}"
        for part_name, part in settings.parts.items()
    )
    if load_card(settings.task).held_out:  # what is tested depends on what is learnt from
        value["source"] = settings.source
    writes = isinstance(head, GeneratorSettings)
    value["reads"] = head.model_dump() if writes else head.model_dump(include=_READ)
    if settings.weight_parts:
        value["alone"] = name
    return fingerprint(value)
