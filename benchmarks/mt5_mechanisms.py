"""What language parts do in an mT5 that is pre-trained here, by the package's own span corruption.

Tables of mechanisms, none of tasks: such a model has read a few thousand sentences. Pre-trains a
small mT5 on given texts, teaches it language parts, and shows that each lowers its own language's
loss, that exchanging it changes what comes out, and that a task moves nothing but its own part.

Run:  python benchmarks/mt5_mechanisms.py --data TEXTS --task-data FOLDER --work FOLDER
      (TEXTS: a parquet table with the columns language and text; FOLDER: SIB-200's)
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from tokenizers.decoders import Metaspace
from transformers import (
    AutoModelForSeq2SeqLM,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from polyprompt.experiments.config import build_study
from polyprompt.experiments.plan import plan_study
from polyprompt.experiments.store import RunFolder
from polyprompt.experiments.study import run_study

SENTINELS = 100
SIZES = {
    "tiny": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4},
    "small": {"d_model": 192, "d_kv": 32, "d_ff": 384, "num_layers": 4, "num_heads": 6},
}
PARTS = {
    "adapter": ({"kind": "bottleneck_adapter", "reduction": 4, "initial": {"bound": 0.02}}, 0.003),
    "prompt": (
        {
            "length": 20,
            "initial": {"kind": "text", "text": "Generate the output in {Language}:", "ends": True},
        },
        0.1,
    ),
}


def read_texts(path: Path, languages: list[str]) -> list[str]:
    """Give the texts of some languages of a table."""
    frame = pl.read_parquet(path).filter(pl.col("language").is_in(languages))
    return frame["text"].to_list()


def make_model(folder: Path, texts: list[str], size: str, words: int) -> Path:
    """Write a random mT5 of a size and a tokenizer that has learnt its pieces from texts.

    One that is there stays: several threads learn the pieces, and they come out a little otherwise.
    """
    if (folder / "config.json").is_file():
        return folder
    torch.manual_seed(0)
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = Metaspace()
    sentinels = [f"<extra_id_{index}>" for index in range(SENTINELS)]
    special = ["<pad>", "</s>", "<unk>", *sentinels]
    trainer = trainers.UnigramTrainer(vocab_size=words, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    config = MT5Config(
        vocab_size=tokenizer.get_vocab_size(), num_decoder_layers=SIZES[size]["num_layers"],
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, dropout_rate=0.0, **SIZES[size],
    )  # fmt: skip
    MT5ForConditionalGeneration(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def finished(value: dict) -> list[RunFolder]:
    """Run a study to its end; what is complete is not run again."""
    study = build_study(value, value["name"])
    for event in run_study(study):
        if event.note:
            print(f"  {event.note}", flush=True)
    names = [run.name for group in plan_study(study) for run in group.runs]
    return [RunFolder(study.folder / name) for name in names]


def pretrained(work: Path, bare: Path, common: dict, epochs: int) -> tuple[Path, RunFolder]:
    """Train all weights by span corruption; returns the model and the run that made it."""
    training = {"epochs": epochs, "batch_size": 32, "learning_rate": 0.003, "select": "last"}
    (run,) = finished(
        common
        | {
            "name": "pretraining", "backbone": {"name": str(bare), "max_tokens": 64},
            "parts": {"all": {"kind": "full"}}, "training": training,
        }
    )  # fmt: skip
    folder = work / "model"
    model = AutoModelForSeq2SeqLM.from_pretrained(bare)
    saved = load_file(run.path / "parts" / "all.safetensors")
    known = {name: value for name, value in saved.items() if name in model.state_dict()}
    left, unknown = model.load_state_dict(known, strict=False)
    assert not unknown
    print(f"pre-trained tensors: {len(known)}; untouched: {left}")
    model.save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(bare).save_pretrained(folder)
    return folder, run


def losses(runs: list[RunFolder], languages: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Give the losses of texts in every language (columns) with every part (rows), and without."""
    table = np.zeros((len(languages), len(languages)))
    without = np.zeros(len(languages))
    for row, run in enumerate(runs):
        for one in run.scores().iter_rows(named=True):
            at = languages.index(one["language"])
            if one["baseline"] is None:
                table[row, at] = one["value"]
            else:
                without[at] = one["value"]
    return table, without


def language_parts(common: dict, model: Path, languages: list[str], epochs: int) -> list[str]:
    """Teach adapters and prompts; returns lines that say by how much each lowers losses."""
    lines = ["| part | language | loss without | with its own | lower by | with another's, mean |"]
    lines.append("| :-- | :-- | --: | --: | --: | --: |")
    for kind, (part, rate) in PARTS.items():
        runs = finished(
            common
            | {
                "name": f"{kind}s", "backbone": {"name": str(model), "max_tokens": 64},
                "targets": languages, "parts": {"language": part},
                "training": {"epochs": epochs, "batch_size": 16, "learning_rate": rate},
                "grid": {"source": [[language] for language in languages]},
            }
        )  # fmt: skip
        table, without = losses(runs, languages)
        for index, language in enumerate(languages):
            own = table[index, index]
            others = np.delete(table[:, index], index).mean()
            lines.append(
                f"| {kind} | {language} | {without[index]:.3f} | {own:.3f} | "
                f"{without[index] - own:.3f} | {others:.3f} |"
            )
    return lines


def sha256(folder: Path) -> str:
    """Hash all files of a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


def composition(
    work: Path, model: Path, task: dict, languages: list[str], source: str
) -> list[str]:
    """Train a task part on language parts; says what exchanging changes, and what has moved."""
    arms = {}
    for kind, part in (("adapter", {"kind": "bottleneck_adapter"}), ("prompt", {})):
        for name, place in (("exchanged", "{language}"), ("kept", source)):
            arms[f"{kind}, {name}"] = {
                "parts": {
                    "language": part | {"source": str(work / "runs" / f"{kind}s" / place)},
                    "task": {"length": 10},
                }
            }
    before = sha256(model), sha256(work / "runs" / "adapters"), sha256(work / "runs" / "prompts")
    value = task | {
        "name": "composition", "output": str(work / "runs"), "arms": arms, "source": source,
        "backbone": {"name": str(model), "max_tokens": 64}, "targets": languages,
        "layout": "{text}{decoder}{task}", "baselines": False,
        "training": {"epochs": 3, "learning_rate": 0.1},
        "head": {"kind": "verbalizer", "several_pieces": "sum", "leading_space": False},
    }  # fmt: skip
    value["arms"] = {
        name: arm | {"layout": "{language}{text}{decoder}{task}"} if "prompt" in name else arm
        for name, arm in arms.items()
    }
    runs = finished(value)
    after = sha256(model), sha256(work / "runs" / "adapters"), sha256(work / "runs" / "prompts")
    kept = [sorted(path.name for path in (run.path / "parts").iterdir()) for run in runs]
    return [
        *exchanges(runs, languages),
        "",
        f"Files of the backbone and of the language parts before and after: "
        f"{'the same' if before == after else 'CHANGED'}.",
        f"Parts that the runs have saved: {sorted(set(map(tuple, kept)))}.",
    ]


def exchanges(runs: list[RunFolder], languages: list[str]) -> list[str]:
    """Say what changes where a language part is exchanged at test, against one that is kept."""
    lines = ["| language part | language | items whose scores change | largest change (nats) |"]
    lines.append("| :-- | :-- | --: | --: |")
    answers = {run.record()["arm"]: run.predictions() for run in runs}
    for kind in PARTS:
        one, other = (answers[f"{kind}, {name}"] for name in ("exchanged", "kept"))
        for language in languages:
            first, second = (
                np.stack(found.filter(language=language)["scores"].to_list())
                for found in (one, other)
            )
            moved = np.abs(first - second).max(1)
            share = 100 * (moved > 1e-6).mean()
            lines.append(f"| {kind} | {language} | {share:.0f} % | {moved.max():.3f} |")
    return lines


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="parquet: language, text")
    parser.add_argument("--task", default="sib200")
    parser.add_argument("--task-data", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--words", type=int, default=4000, help="pieces of the vocabulary")
    parser.add_argument("--epochs", type=int, default=10, help="of pre-training")
    parser.add_argument("--texts", type=int, default=500, help="of a language, for its part")
    parser.add_argument("--part-epochs", type=int, default=5)
    parser.add_argument(
        "--languages", default="eng_Latn,deu_Latn,swh_Latn,rus_Cyrl,arb_Arab,hin_Deva"
    )
    parser.add_argument("--pretrained-on", help="languages of pre-training, all if left out")
    given = parser.parse_args()
    work, languages = given.work.resolve(), given.languages.split(",")
    known = (given.pretrained_on or given.languages).split(",")
    texts = read_texts(given.data, languages)
    bare = make_model(work / "random", texts, given.size, given.words)
    common = {
        "task": "texts", "data": str(given.data.resolve()), "output": str(work / "runs"),
        "source": known, "shots": "all", "test_items": 60,
    }  # fmt: skip
    model, run = pretrained(work, bare, common, given.epochs)
    steps = pl.read_ndjson(run.path / "steps.jsonl")
    dev = steps["dev_loss"].drop_nulls()
    print(f"texts of {', '.join(known)}, {run.record()['trained_parameters']} trained numbers")
    print(f"loss of held-out texts before and after pre-training: {dev[0]:.3f}, {dev[-1]:.3f}")
    own = common | {"shots": given.texts}
    print("\n".join(language_parts(own, model, languages, given.part_epochs)), "", sep="\n")
    task = {"task": given.task, "data": given.task_data, "shots": 8, "test_items": 40}
    print("\n".join(composition(work, model, task, languages, languages[0])))


if __name__ == "__main__":
    main()
