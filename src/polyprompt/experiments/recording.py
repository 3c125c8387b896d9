"""What ``run.json`` says of a run: origin, seeds, examples, engine, sizes, seconds, versions."""

import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from polyprompt.experiments.assemble import Group
from polyprompt.experiments.plan import GroupPlan, RunPlan, layout_text
from polyprompt.records import Example
from polyprompt.tasks.card import TaskCard

MOST_LISTED = 10_000
"""Training examples that are named; of more, the data's identity and the draw's seed say which."""

_PACKAGES = ("polyprompt", "torch", "transformers", "tokenizers", "numpy", "polars", "scikit-learn")


def run_record(plan: GroupPlan, run: RunPlan, group: Group) -> dict[str, Any]:
    """Describe a run; its group is named by its first run."""
    facts = group.engine.backbone.facts
    member = group.members[plan.runs.index(run)]
    return {
        "run": run.name,
        "arm": run.settings.arm,
        "source": list(run.settings.source),
        "evaluate": run.settings.evaluate,
        **_task(plan.card),
        "data": plan.data.origin,
        "data_identity": run.data_identity,
        "backbone": facts.name,
        "backbone_identity": facts.identity,
        "backbone_notes": list(facts.notes),
        "backbone_commit": facts.commit,
        "model_type": group.engine.backbone.model.config.model_type,
        "label_words": _label_words(plan.card.labels, group),
        "backbone_parameters": facts.parameters,
        "attention": str(facts.attention),
        "layout": layout_text(run.settings, plan.card),
        "engine": plan.choice.kind,
        "engine_reason": plan.choice.reason,
        "allowance": asdict(group.engine.allowance),
        "trained_parameters": member.trained_count,
        "trained_by_part": member.trained_by_part,
        "text_end": member.text_end,
        **_sourced(run),
        **_draw(run),
        "steps": member.steps,
        "select": member.settings.select,
        "group": plan.runs[0].name,
        "group_runs": len(plan.runs),
        "group_seconds": {},
        **_environment(),
    }


def _task(card: TaskCard) -> dict[str, Any]:
    """Describe what was asked."""
    return {
        "task": card.name,
        "task_title": card.title,
        "kind": card.kind,
        "form": card.form,
        "metric": card.measured_by,
        "caution": card.caution,
        "licence": card.licence,
        "parallel": card.parallel,
        "labels": list(card.answer_labels),
        "fields": list(card.columns.fields),
    }


def _sourced(run: RunPlan) -> dict[str, Any]:
    """Name the frozen parts of earlier runs, with their contents; nothing where there are none."""
    if not run.sourced.files:
        return {}
    contents = run.sourced.contents()
    files = {
        name: {
            language: {"path": str(path.resolve()), "sha256": contents[name][language]}
            for language, path in own.items()
        }
        for name, own in run.sourced.files.items()
    }
    without = {name: list(languages) for name, languages in run.sourced.without.items()}
    return {"sourced_parts": files, "without_part": without}


def _environment() -> dict[str, Any]:
    """Name the versions of what computed."""
    return {
        "versions": {name: _version(name) for name in _PACKAGES},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
    }


def _draw(run: RunPlan) -> dict[str, Any]:
    """Name the examples a run saw and the seeds that chose them."""
    return {
        "draw": run.draw.note,
        "draw_seed": run.settings.draw_seed,
        "train_seed": run.settings.train_seed,
        "train_ids": _listed(run.draw.train),
        "dev_ids": [f"{e.language}/{e.id}" for e in run.draw.dev],
        "train_examples": len(run.draw.train),
        "dev_examples": len(run.draw.dev),
    }


def _listed(examples: Sequence[Example]) -> list[str]:
    """Name examples; none of them where there are too many to be looked at."""
    return [f"{e.language}/{e.id}" for e in examples] if len(examples) <= MOST_LISTED else []


def _label_words(labels: Sequence[str], group: Group) -> dict[str, list[str]]:
    """Show the pieces of a verbalizer's label words; nothing for other heads."""
    if group.words is None:
        return {}
    tokenizer = group.engine.backbone.tokenizer
    shown = [list(map(str, tokenizer.convert_ids_to_tokens(list(w)))) for w in group.words.pieces]
    return dict(zip(labels, shown, strict=True))


def _version(package: str) -> str:
    """Give a package's version; a package run from source may have none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
