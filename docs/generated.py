"""Writes the pages of the site that are made from the program: commands, settings, tasks."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import polars as pl
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from polyprompt import capabilities, head_settings, part_settings, study_settings
from polyprompt.report.latex import markdown_frame
from polyprompt.tasks.card import load_card, shipped_cards

MODULES = (study_settings, capabilities, part_settings, head_settings)
TITLES = {
    study_settings: "A study",
    capabilities: "A run, its backbone, training and engine",
    part_settings: "Parts",
    head_settings: "Heads",
}


_NAMES: dict[Any, str] = {
    str: "text", int: "whole number", float: "number", bool: "true | false", type(None): "null",
    Any: "value",
}  # fmt: skip
BESIDE = {
    "configs/philippy2024/README.md": "setup_philippy2024",
    "configs/park2023/README.md": "setup_park2023",
    "configs/vykopal2024/README.md": "setup_vykopal2024",
    "src/polyprompt/languages/data/README.md": "language_data",
}
"""Texts that stand beside what they are about, and the pages that they become."""


def write(folder: Path) -> None:
    """Write the pages into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "commands.md").write_text(commands(), encoding="utf-8")
    (folder / "settings.md").write_text(settings(), encoding="utf-8")
    (folder / "cards.md").write_text(cards(), encoding="utf-8")
    root = folder.parent.parent
    for text, page in BESIDE.items():
        found = (root / text).read_text(encoding="utf-8").replace("](../../docs/", "](../")
        (folder / f"{page}.md").write_text(found, encoding="utf-8")


def commands() -> str:
    """Describe the command line, by typer's own description."""
    call = [sys.executable, "-m", "typer", "polyprompt.cli.main", "utils", "docs"]
    done = subprocess.run(
        [*call, "--name", "polyprompt"], check=True, capture_output=True, text=True
    )
    body = done.stdout.partition("\n")[2]
    whole = dict(re.findall(r"^##+ `polyprompt ([\w ]+)`\n\n(.+)$", body, re.MULTILINE))
    for name, words in whole.items():  # a list of commands has but the beginnings
        short = name.rpartition(" ")[2]
        body = re.sub(rf"^\* `{short}`: .*\.\.\.$", f"* `{short}`: {words}", body, flags=re.M)
    return f"# Commands\n{body}"


def settings() -> str:
    """Tabulate every setting with its type and default."""
    lines = [
        "# Settings",
        "",
        "What a study's YAML file may say, from the program's own schema; `KEY=VALUE` on the "
        "command line has the same names, with dots (`training.epochs=5`). Keys that are not "
        "known are refused.",
        "",
    ]
    for module in MODULES:
        lines += [f"## {TITLES[module]}", ""]
        for model in reversed([*_models(module)]):  # what is made of others comes first
            lines += [f"### {model.__name__}", "", _told(model), "", markdown_frame(_fields(model))]
            lines += [""]
    return "\n".join(lines)


def cards() -> str:
    """Tabulate the tasks that are shipped."""
    found = [load_card(name) for name in shipped_cards()]
    rows = {
        "task": [f"`{card.name}`" for card in found],
        "what it is": [card.title for card in found],
        "kind": [card.kind for card in found],
        "metric": [card.measured_by for card in found],
        "data": [_origin(card) for card in found],
        "licence": [card.licence for card in found],
        "source": [" ".join(card.citation.split()) for card in found],
    }
    words = (
        "# Shipped tasks\n\nA task is one YAML card; [how to write one](../extending.md). "
        "`polyprompt tasks` prints this list.\n\n"
    )
    return words + markdown_frame(pl.DataFrame(rows))


def _origin(card: Any) -> str:
    """Say where a card's data come from."""
    if card.shipped is not None:
        return "shipped"
    return f"Hub: {card.hub.path}" if card.hub is not None else "`data=FOLDER`"


def _models(module: Any) -> Iterator[type[BaseModel]]:
    """Find a module's own settings, in the order of their definitions."""
    for value in vars(module).values():
        own = isinstance(value, type) and issubclass(value, BaseModel)
        if own and value.__module__ == module.__name__ and value.model_fields:
            yield value


def _told(model: type[BaseModel]) -> str:
    """Give a model's docstring as Markdown."""
    text = (model.__doc__ or "").replace("``", "`")
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _fields(model: type[BaseModel]) -> pl.DataFrame:
    """Tabulate a model's settings."""
    fields = model.model_fields
    return pl.DataFrame(
        {
            "setting": [f"`{name}`" for name in fields],
            "value": [_linked(_shown(field.annotation)) for field in fields.values()],
            "default": [_default(field) for field in fields.values()],
        }
    )


def _linked(text: str) -> str:
    """Let the names of settings that have a table lead to it."""
    names = [model.__name__ for module in MODULES for model in _models(module)]
    found = re.sub(rf"\b({'|'.join(names)})\b", lambda m: f"[{m[0]}](#{m[0].lower()})", text)
    return f"`{text}`" if found == text else found


def _default(field: FieldInfo) -> str:
    """Write a setting's default."""
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    return f"`{_written(value)}`" if str(value) else "empty"


def _written(value: Any) -> str:
    """Write a value as YAML has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, BaseModel):
        return type(value).__name__
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_written(own)}" for key, own in value.items()) + "}"
    if isinstance(value, tuple | list | frozenset):
        return "[" + ", ".join(map(_written, value)) + "]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _shown(kind: Any) -> str:
    """Write a type as YAML's user thinks of it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _shown(inner[0])
    if origin is Literal:
        return " | ".join(str(value) for value in inner)
    if origin in {Union, UnionType}:
        return " | ".join(dict.fromkeys(_shown(one) for one in inner))
    if origin in {tuple, list, frozenset}:
        return f"list of {_shown(inner[0])}"
    if origin is dict:
        return f"mapping of {_shown(inner[0])} to {_shown(inner[1])}"
    return _NAMES.get(kind) or getattr(kind, "__name__", str(kind))
