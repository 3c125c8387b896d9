"""What all tests share: shape checks, tiny random backbones, and the data beside the checkout."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read at import: tests take one core each

from jaxtyping import install_import_hook

_HOOK = install_import_hook(
    [f"polyprompt.{layer}" for layer in ("models", "tuning", "heads", "engine")],
    "beartype.beartype",
)
_HOOK.__enter__()

import numpy as np
import pytest
import torch
import yaml

from polyprompt.models.pypi import is_converted
from polyprompt.models.tiny import tiny_model, tiny_tokenizer
from polyprompt.records import Example

os.environ["HF_HUB_OFFLINE"] = "1"
torch.set_num_threads(1)
SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
LABELS = ("sea", "hill", "town")
LANGUAGES = ("eng_Latn", "fra_Latn", "swh_Latn", "zho_Hans")


@pytest.fixture(scope="session")
def sib200() -> Path:
    """The folder of real SIB-200 tables."""
    folder = SHARED / "sib200"
    if not folder.is_dir():
        pytest.skip("the data folder beside the checkout is missing")
    return folder


@pytest.fixture(scope="session")
def real_backbone():
    """The real multilingual E5, converted at first use."""
    from polyprompt.capabilities import BackboneSettings
    from polyprompt.models.load import load_backbone

    if not is_converted("multilingual-e5-small"):
        pytest.skip("pypi:multilingual-e5-small is not in the cache; 'make test' fetches it first")
    return load_backbone(BackboneSettings())


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT as a local folder."""
    folder = tmp_path_factory.mktemp("backbone")
    tiny_model("bert").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def make_rows(split: str, per_class: int, languages: tuple[str, ...], seed: int) -> list[dict]:
    """Write rows whose label can be read from their letters."""
    rng = np.random.default_rng(seed)
    letters = {"sea": "wave", "hill": "rock", "town": "bus"}
    rows = []
    for language in languages:
        for label in LABELS:
            for number in range(per_class):
                noise = "".join(rng.choice(list("abcdefgh "), int(rng.integers(1, 25))))
                text = f"{letters[label]} {noise}x"
                identity = str(1000 * LABELS.index(label) + 10 * number)
                rows.append({"language": language, "id": identity, "label": label, "text": text})
    return rows


def write_toy_task(folder: Path) -> tuple[Path, Path]:
    """Write a small task: the path of its card and the folder of its tables."""
    import polars as pl

    data = folder / "data"
    data.mkdir()
    for split, n, languages in (
        ("train", 6, LANGUAGES[:2]),
        ("dev", 2, LANGUAGES[:2]),
        ("test", 4, LANGUAGES),
    ):
        seed = ["train", "dev", "test"].index(split)
        pl.DataFrame(make_rows(split, n, languages, seed)).write_parquet(data / f"{split}.parquet")
    card = {
        "name": "toy",
        "title": "A toy",
        "columns": {"id": "id", "label": "label", "fields": {"text": "text"}},
        "labels": list(LABELS),
        "label_descriptions": {"sea": "wave", "hill": "rock", "town": "bus"},
        "parallel": True,
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(card))
    return path, data


def toy_settings(task: tuple[Path, Path], backbone: Path, output: Path) -> dict:
    """Give the settings of a study that runs in a second."""
    card, data = task
    return {
        "name": "toy",
        "task": str(card),
        "data": str(data),
        "output": str(output),
        "backbone": {"name": str(backbone), "max_tokens": 64},
        "source": "eng_Latn",
        "shots": 4,
        "layout": "{text}{task:3}",
        "training": {"epochs": 2, "learning_rate": 0.05, "batch_size": 4},
        "grid": {"seed": [0, 1]},
    }


@pytest.fixture
def toy_task(tmp_path: Path) -> tuple[Path, Path]:
    """A small task: the path of its card and the folder of its tables."""
    return write_toy_task(tmp_path)


@pytest.fixture
def toy_study(tmp_path: Path, toy_task: tuple[Path, Path], tiny_folder: Path) -> dict:
    """The settings of a study that runs in a second."""
    return toy_settings(toy_task, tiny_folder, tmp_path / "runs")


def examples_of(*texts: str) -> list[Example]:
    """Make unlabelled examples."""
    return [Example(str(i), "eng_Latn", {"text": text}) for i, text in enumerate(texts)]


@pytest.fixture
def texts_folder(tmp_path):
    """Two made-up languages, of different letters."""
    folder = tmp_path / "texts"
    folder.mkdir()
    rng = np.random.default_rng(0)
    letters = {"eng_Latn": "abcd", "swh_Latn": "wxyz"}
    for language, own in letters.items():
        lines = ["".join(rng.choice(list(own + " "), 20)) for _ in range(60)]
        (folder / f"{language}.txt").write_text("\n".join(lines) + "\n")
    return folder
