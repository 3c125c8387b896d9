"""The model card of a run that is shared: what it reached where, on what, and what was seen before.

Its metadata are the Hub's, made by the Hub's own library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polyprompt.analysis.summary import Summary
from polyprompt.cautions import contamination_notes
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


def model_card(shared: Shared) -> str:
    """Write a model card in Markdown, the Hub's metadata in front."""
    from huggingface_hub import ModelCardData

    record, summary = shared.record, shared.summary
    kind = record.get("kind", "classification")
    fields: dict[str, Any] = {
        "library_name": "polyprompt",
        "pipeline_tag": _PIPELINES.get(kind, _WRITTEN),
        "tags": ["polyprompt", "cross-lingual-transfer", *_parts(record)],
        "language": _languages(record, summary),
        "license": shared.licence or None,
        "base_model": shared.base or None,
        "datasets": [shared.data] if shared.data else None,
    }
    if shared.adapter:
        fields["base_model_relation"] = "adapter"
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
    codes = [code.partition("_")[0] for code in (*record["source"], *tested)]
    return list(dict.fromkeys(code for code in codes if len(code) == 3)) or None


def _results(shared: Shared, summary: Summary) -> list[Any]:
    """Give every language's result as the Hub's metadata have it."""
    from huggingface_hub import EvalResult

    record = shared.record
    kind = record.get("kind", "classification")
    return [
        EvalResult(
            task_type=_PIPELINES.get(kind, _WRITTEN),
            dataset_type=shared.data or record["task"],
            dataset_name=f"{record['task']} ({row.name})",
            dataset_config=row.code,
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
    record, section = shared.record, shared.section
    warned = contamination_notes(list(map(str, record["backbone_notes"])))
    lines = [
        f"# {_plain(shared.repository.rpartition('/')[2])}",
        "",
        f"{_plain(record['task_title'])}: {record['trained_parameters']:,} trained numbers on the "
        f"frozen backbone `{record['backbone']}`, learnt from {record['train_examples']} examples "
        f"in {', '.join(record['source'])} ({_plain(record['draw'])}), with "
        "polyprompt.",
        "",
        *(f"> ⚠ **{_plain(note)}**\n" for note in warned),
        *([f"> {_plain(record['caution'])}\n"] if record["caution"] else []),
        "## Use",
        "",
        *_use(shared),
        "## Results",
        "",
    ]
    if section is None:
        lines += [
            "Nothing was held out: how good it is, is unknown. Test it on labelled texts.",
            "",
        ]
    else:
        lines += [_plain(section.headline), ""]
        lines += [f"- Warning: {_plain(text)}" for text in section.warnings if text not in warned]
        lines += ["", _BY_FOLDS, ""] if "scores_from" in record else [""]
        for table in section.tables:
            lines += [f"**{_plain(table.title)}**", "", _plain(markdown(table), lines=True), ""]
        lines += [f"- {_plain(note)}" for note in section.notes]
        lines += [""]
    return "\n".join([*lines, *_making(shared)])


def _use(shared: Shared) -> list[str]:
    """Say how it is taken up."""
    fields, name = shared.record["fields"], shared.repository.rpartition("/")[2]
    columns = ", ".join(f"`{field}`" for field in fields)
    row = ", ".join(f'"{field}": "…"' for field in fields)
    lines = [
        "```",
        f"polyprompt pull {shared.repository} {name}",
        f"polyprompt predict {name} new.csv > answers.csv",
        "```",
        "",
        f"A row has {columns}. In Python:",
        "",
        "```python",
        "from polyprompt import Predictor",
        f'Predictor.load("{name}").answer([{{{row}}}])',
        "```",
        "",
    ]
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
    return [
        "## How it was made",
        "",
        f"- Layout `{_plain(record['layout'])}`, {record['steps']} steps, seeds (draw, training) "
        f"{record['draw_seed']}, {record['train_seed']}; all settings stand in `config.yaml`.",
        f"- Data: {_plain(record['data'])}; licence: {_plain(record['licence']) or 'not known'}.",
        f"- Licence of the trained parts: {_plain(licence)}. The backbone is not among the files; "
        "its own licence applies to it.",
        f"- Versions: {versions}.",
        f"- Files: {', '.join(f'`{file}`' for file in shared.files)}.",
        "",
    ]


def _plain(text: object, *, lines: bool = False) -> str:
    """Write a text so that nothing in it is markup of a page."""
    safe = str(text).replace("&", "&amp;").replace("<", "&lt;")
    return safe if lines else " ".join(safe.split())
