"""The choice head: log-likelihoods of answers equal transformers', and studies on such tasks."""

import polars as pl
import pytest
import torch
import yaml

from polyprompt.data.encoded import Reading
from polyprompt.data.encoding import Encoder
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Prompts
from polyprompt.errors import ConfigError, DataError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.plan import plan_study
from polyprompt.experiments.store import RunFolder
from polyprompt.experiments.study import run_study
from polyprompt.head_settings import ChoiceSettings
from polyprompt.heads.choice import NO_CHOICE, ChoiceHead
from polyprompt.models.tiny import DECODERS, tiny_backbone, tiny_model, tiny_tokenizer
from polyprompt.records import Example
from polyprompt.tasks.layout import parse_layout

ITEMS = (
    Example("1", "", {"text": "the cat"}, "1", choices=("sat", "ran away")),
    Example("2", "", {"text": "x"}, "2", choices=("a", "b", "see")),
    Example("3", "", {"text": "one two three"}, "1", choices=("four", "no")),
)


def setting(kind, runs=2, layout="{text}?{task:2}"):
    backbone = tiny_backbone(kind)
    parsed = parse_layout(layout, ["text"], {"task": None})
    reading = Reading(continued=6, leading_space=True)
    encoder = Encoder(backbone.tokenizer, parsed, "", 64, ends=False, reading=reading)
    generator = torch.Generator().manual_seed(1)
    width = backbone.facts.width
    vectors = tuple(
        (0.3 * torch.randn(2, width, generator=generator)).requires_grad_() for _ in range(runs)
    )
    return backbone, encoder.encode(ITEMS), Prompts(vectors, ((2,),) * runs)


def by_transformers(backbone, encoded, vectors, how):
    """Log-likelihoods of one input's answers, each by transformers' own pass over the whole."""
    model, table = backbone.model, backbone.model.get_input_embeddings()
    scale = table(torch.tensor([5])).norm() / table.weight[5].norm()
    front, behind = (table(torch.from_numpy(ids)) for ids in encoded.hard)
    scores = []
    for pieces in encoded.continuations:
        x = torch.cat([front, vectors * scale, behind, table(torch.tensor(pieces))])
        logs = model(inputs_embeds=x[None], use_cache=False).logits[0].log_softmax(-1)
        at = len(x) - len(pieces) - 1
        terms = torch.stack([logs[at + i, piece] for i, piece in enumerate(pieces)])
        scores.append(terms.sum() if how == "sum" else terms.mean())
    return torch.stack(scores)


@pytest.mark.parametrize("how", ["sum", "mean"])
@pytest.mark.parametrize("kind", DECODERS)
def test_scores_are_transformers_log_likelihoods_on_both_engines(kind, how):
    backbone, inputs, prompts = setting(kind)
    head = ChoiceHead(backbone, ChoiceSettings(kind="choice", several_pieces=how), 3)
    gradients = []
    for engine in (CachedEngine(backbone), DirectEngine(backbone)):
        scores = head.scores(engine.every(inputs, prompts)).unflatten(0, (2, 3))
        for run, vectors in enumerate(prompts.vectors):
            for row, encoded in enumerate(inputs):
                theirs = by_transformers(backbone, encoded, vectors, how)
                ours = scores[run, row, : len(theirs)]
                torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
                assert (scores[run, row, len(theirs) :] == NO_CHOICE).all()
        kept = scores[:, :, :2].sin().sum()
        gradients.append(torch.autograd.grad(kept, prompts.vectors))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_answers_are_cut_after_so_many_pieces():
    _, inputs, _ = setting("llama")
    assert [len(pieces) for pieces in inputs[0].continuations] == [4, 6]


@pytest.fixture
def choice_task(tmp_path):
    """Items whose right answer is the text itself, with one that is not."""
    folder = tmp_path / "choices"
    folder.mkdir()
    for split, count, languages in (("train", 8, 1), ("dev", 4, 1), ("test", 5, 2)):
        rows = []
        for language in ("eng_Latn", "deu_Latn")[:languages]:
            for i in range(count):
                text = f"{'abcdefgh'[i]}o"
                first = i % 2 == 0
                pair = (text, "zz") if first else ("zz", text)
                rows.append(
                    {
                        "language": language,
                        "id": str(i),
                        "text": text,
                        "one": pair[0],
                        "two": pair[1],
                        "answer": 0 if first else 1,
                    }
                )
        pl.DataFrame(rows).write_csv(folder / f"{split}.csv")
    card = {
        "name": "echo", "title": "Say it again", "kind": "choice", "parallel": True,
        "local": {"files": {s: f"{s}.csv" for s in ("train", "dev", "test")}},
        "columns": {
            "id": "id", "label": "answer", "values": {"0": "1", "1": "2"},
            "choices": ["one", "two"], "fields": {"text": "text"},
        },
        "labels": ["1", "2"], "layout": "{text}{task}",
    }  # fmt: skip
    path = tmp_path / "echo.yaml"
    path.write_text(yaml.safe_dump(card))
    return path, folder


@pytest.fixture
def decoder_folder(tmp_path):
    folder = tmp_path / "decoder"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def choice_study(choice_task, folder, tmp_path, **changes):
    card, data = choice_task
    value = {
        "name": "echo", "task": str(card), "data": str(data), "output": str(tmp_path / "runs"),
        "backbone": {"name": str(folder), "max_tokens": 64}, "shots": "all",
        "head": {"kind": "choice", "max_pieces": 8},
        "parts": {"task": {"length": 4}}, "grid": {"seed": [0, 1]},
        "training": {"epochs": 3, "learning_rate": 0.05, "batch_size": 4},
    }  # fmt: skip
    return build_study(value | changes, "echo")


def test_a_study_of_choices(choice_task, decoder_folder, tmp_path):
    study = choice_study(choice_task, decoder_folder, tmp_path)
    (group,) = plan_study(study)
    assert group.choice.kind == "cached"
    assert group.runs[0].settings.head.kind == "choice"
    for _ in run_study(study):
        pass
    table = RunFolder(study.folder / group.runs[0].name).predictions()
    own = table.filter(pl.col("baseline").is_null())
    assert set(own["prediction"]) <= {"1", "2"}
    assert set(table["baseline"].drop_nulls()) == {"majority", "zero_shot_instruction"}


def test_what_does_not_go_with_choices_is_refused(
    choice_task, decoder_folder, tmp_path, tiny_folder
):
    with pytest.raises(ConfigError, match="cannot answer the choice task 'echo'.*Take a decoder"):
        plan_study(choice_study(choice_task, tiny_folder, tmp_path, head="classifier"))
    with pytest.raises(ConfigError, match="cannot answer the choice task"):
        plan_study(choice_study(choice_task, decoder_folder, tmp_path, head="verbalizer"))
    _, data = choice_task
    path = data / "train.csv"
    path.write_text(path.read_text().replace("bo,zz,bo", "bo,,bo"))
    with pytest.raises(DataError, match="train.*row 2: answer 1 is empty"):
        plan_study(choice_study(choice_task, decoder_folder, tmp_path))
