"""The model card of a run that is shared: what it reached where, on what, and what was seen before.

Its metadata are the Hub's, made by the Hub's own library.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from polyprompt.analysis.summary import Summary
from polyprompt.cautions import contamination_notes
from polyprompt.languages.catalogue import catalogue
from polyprompt.report.score_tables import markdown
from polyprompt.report.section import Section
from polyprompt.scoring.metrics import title_of

_PIPELINES = {"classification": "text-classification", "tagging": "token-classification"}
_WRITTEN = "text-generation"
_BY_FOLDS = (
    "The numbers come from folds of the very examples that the run learnt from, each answered by a "
    "prompt that had not seen it. They hold for texts like those."
)


@dataclass(frozen=True)
class Shared:
    """What a card is made from.

    Attributes:
        repository: ``owner/name``.
        record: The run's ``run.json``, without what belongs to the machine it was made on.
        files: Beside the card, for the list of contents.
        summary: Of the run's answers; None where nothing could be held out.
        section: The same in words and tables; None as well.
        licence: Of the parts, as the Hub abbreviates it; empty where their owner names none.
        base: The backbone as the Hub calls it; empty where it is not from there.
        data: The data set as the Hub calls it; empty where it is not from there.
        adapter: Whether PEFT's files are beside it.
        languages: Whether texts are read with what belongs to their language.
        origin: Of a run that is one of several; empty of others.
    """

    repository: str
    record: Mapping[str, Any]
    files: Sequence[str]
    summary: Summary | None
    section: Section | None
    licence: str = ""
    base: str = ""
    data: str = ""
    adapter: bool = False
    languages: bool = False
    origin: str = ""

    @property
    def kind(self) -> str:
        """The kind of the task."""
        return str(self.record.get("kind", "classification"))

    @property
    def changes_backbone(self) -> bool:
        """Whether the backbone's own weights were trained."""
        return "full" in self.record.get("part_kinds", ())


def model_card(shared: Shared) -> str:
    """Write a model card in Markdown, the Hub's metadata in front."""
    from huggingface_hub import ModelCardData

    record, summary = shared.record, shared.summary
    fields: dict[str, Any] = {
        "library_name": "polyprompt",
        "pipeline_tag": _PIPELINES.get(shared.kind, _WRITTEN),
        "tags": ["polyprompt", "cross-lingual-transfer", *_parts(record)],
        "language": _languages(record, summary),
        "license": shared.licence or None,
        "base_model": shared.base or None,
        "datasets": [shared.data] if shared.data else None,
    }
    if shared.base and (shared.adapter or shared.changes_backbone):
        fields["base_model_relation"] = "finetune" if shared.changes_backbone else "adapter"
    if summary is not None:
        fields |= {
            "model_name": shared.repository.rpartition("/")[2],
            "metrics": [summary.metric],
            "eval_results": _results(shared, summary),
        }
    data = ModelCardData(**{key: value for key, value in fields.items() if value is not None})
    return f"---\n{data.to_yaml()}\n---\n\n{_body(shared)}"


def _parts(record: Mapping[str, Any]) -> list[str]:
    """Give the kinds of a run's parts as tags."""
    return sorted({kind.replace("_", "-") for kind in record.get("part_kinds", ())})


def _languages(record: Mapping[str, Any], summary: Summary | None) -> list[str] | None:
    """Give the languages that were learnt from or tested, as ISO 639-3 has them."""
    tested = [row.code for row in summary.languages] if summary else []
    known = [code for code in (*record["source"], *tested) if code in catalogue()]
    return list(dict.fromkeys(code.partition("_")[0] for code in known)) or None


def _results(shared: Shared, summary: Summary) -> list[Any]:
    """Give every language's result as the Hub's metadata have it."""
    from huggingface_hub import EvalResult

    record = shared.record
    return [
        EvalResult(
            task_type=_PIPELINES.get(shared.kind, _WRITTEN),
            dataset_type=shared.data or record["task"],
            dataset_name=record["task"] + (f" ({row.name})" if row.code in catalogue() else ""),
            dataset_config=row.code if row.code in catalogue() else None,
            dataset_split=_split(record),
            metric_type=summary.metric,
            metric_value=round(row.accuracy.mean, 4),
            metric_name=f"{title_of(summary.metric)}, n = {row.n}",
        )
        for row in summary.languages
    ]


def _split(record: Mapping[str, Any]) -> str:
    """Name what was tested on."""
    if "scores_from" in record:
        return str(record["scores_from"])
    return "validation" if record["evaluate"] == "dev" else "test"


def _body(shared: Shared) -> str:
    """Write what people read."""
    record = shared.record
    warned = contamination_notes(list(map(str, record["backbone_notes"])))
    lines = [
        f"# {_plain(shared.repository.rpartition('/')[2])}",
        "",
        _what(shared),
        "",
        *(f"> ⚠ **{_plain(note)}**\n" for note in warned),
        *([f"> {_plain(record['caution'])}\n"] if record["caution"] else []),
        "## Use",
        "",
        *_use(shared),
        "## Results",
        "",
        *_came_to(shared, warned),
        *_making(shared),
    ]
    return "\n".join(lines)


def _came_to(shared: Shared, warned: Sequence[str]) -> list[str]:
    """Say what it reached; what stands on the card already is not repeated."""
    section = shared.section
    if section is None:
        return ["Nothing was held out: how good it is, is unknown. Test it on labelled texts.", ""]
    lines = [_plain(section.headline), ""]
    lines += [f"- Warning: {_plain(text)}" for text in section.warnings if text not in warned]
    lines += ["", _BY_FOLDS, ""] if "scores_from" in shared.record else [""]
    lines += [shared.origin, ""] if shared.origin else []
    for table in section.tables:
        rows = tuple(tuple(map(_plain, row)) for row in table.rows)
        shown = replace(table, rows=rows, columns=tuple(map(_plain, table.columns)))
        lines += [f"**{_plain(table.title)}**", "", markdown(shown), ""]
    return [*lines, *(f"- {_plain(note)}" for note in section.notes), ""]


def _what(shared: Shared) -> str:
    """Say in a sentence what it is."""
    record = shared.record
    known = [code for code in record["source"] if code in catalogue()]
    learnt = f"learnt from {record['train_examples']} examples"
    learnt += f" in {', '.join(known)}" if known else ""
    number, name = f"{record['trained_parameters']:,}", _code(record["backbone"])
    what = f"{number} trained numbers on the frozen backbone {name}"
    if shared.changes_backbone:
        what = f"the backbone {name}, its own weights trained ({number} trained numbers in all)"
    return (
        f"{_plain(record['task_title'])}: {what}, {learnt} ({_plain(record['draw'])}), with "
        f"polyprompt {record['versions'].get('polyprompt', '')}."
    )


def _use(shared: Shared) -> list[str]:
    """Say how it is taken up."""
    name = shared.repository.rpartition("/")[2]
    pull = ["```", f"polyprompt pull {shared.repository} {name}"]
    taken = {
        "language": f"A task takes its parts up with `source: {name}` under `parts`.",
        "choice": "New rows of this kind of task are not answered by `predict`; a run begins with "
        f"its parts (`initial: {{kind: file, path: {name}}}`).",
    }
    if shared.kind in taken:
        return [*pull, "```", "", taken[shared.kind], ""]
    fields = shared.record["fields"]
    columns = ", ".join(map(_code, fields))
    row = ", ".join(f'"{field}": "…"' for field in fields)
    option, codes = (" --language deu_Latn", ', ["deu_Latn"]') if shared.languages else ("", "")
    lines = [
        *pull,
        f"polyprompt predict {name} new.csv{option} > answers.csv",
        "```",
        "",
        f"A row has {columns}. In Python:",
        "",
        "```python",
        "from polyprompt import Predictor",
        f'Predictor.load("{name}").answer([{{{row}}}]{codes})',
        "```",
        "",
    ]
    if shared.languages:
        lines += ["Texts are read with what belongs to their language, which has to be named.", ""]
    if shared.record["labels"]:
        shown = ", ".join(_plain(label) for label in shared.record["labels"])
        lines += [f"Labels: {shown}.", ""]
    if shared.adapter:
        lines += [
            f'PEFT loads it, too: `PeftModel.from_pretrained(model, "{shared.repository}")`; '
            "`polyprompt.json` says how the input is written and answers are read.",
            "",
        ]
    return lines


def _making(shared: Shared) -> list[str]:
    """Say how it was made, and under which licences."""
    record = shared.record
    licence = shared.licence or "not named by their owner"
    versions = ", ".join(f"{name} {value}" for name, value in record["versions"].items())
    backbone = (
        "The changed backbone is among the files, and the licence of the backbone applies to it."
        if shared.changes_backbone
        else "The backbone is not among the files; its own licence applies to it."
    )
    return [
        "## How it was made",
        "",
        f"- Layout {_code(record['layout'])}, {record['steps']} steps, seeds (draw, training) "
        f"{record['draw_seed']}, {record['train_seed']}; all settings stand in `config.yaml`.",
        f"- Data: {_plain(record['data'])}; licence: {_plain(record['licence']) or 'not known'}.",
        f"- Licence of the trained parts: {_plain(licence)}. {backbone}",
        f"- Versions: {versions}.",
        f"- Files: {', '.join(map(_code, shared.files))}.",
        "",
    ]


def _plain(text: object) -> str:
    """Write a text on one line so that nothing in it is markup."""
    return re.sub(r"([\\`*\[\]<>!~])", r"\\\1", " ".join(str(text).split()))


def _code(text: object) -> str:
    """Write a text on one line as code."""
    return f"`{' '.join(str(text).split()).replace('`', chr(39))}`"
