"""A run that is shared answers on another machine as it did on its own; its card tells the truth."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import polars as pl
import pytest
import yaml
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from polyprompt import Predictor
from polyprompt.errors import BackboneError, ConfigError, StoreError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.store import RunFolder, find_run
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.models.locate import locate
from polyprompt.models.tiny import tiny_model, tiny_tokenizer
from polyprompt.sharing import pull, push
from programs import called

TEXTS = ("wave a", "rock b c d", "bus", "abc")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub of folders: the client's own functions, with a folder in the place of the network."""
    base = tmp_path / "hub"

    def create_repo(_, repo_id, *, private, exist_ok, repo_type):
        assert exist_ok
        assert repo_type == "model"
        huggingface_hub.utils.validate_repo_id(repo_id)
        (base / repo_id).mkdir(parents=True, exist_ok=True)

    def upload_folder(_, *, repo_id, folder_path, repo_type, commit_message):
        shutil.copytree(folder_path, base / repo_id, dirs_exist_ok=True)
        return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/1")

    def snapshot_download(repo_id, *, revision, local_dir, allow_patterns):
        if not (base / repo_id).is_dir():
            response = SimpleNamespace(status_code=404, headers={}, request=None)
            raise huggingface_hub.errors.RepositoryNotFoundError("none", response=response)
        names = [p.relative_to(base / repo_id).as_posix() for p in (base / repo_id).rglob("*.*")]
        for name in huggingface_hub.utils.filter_repo_objects(names, allow_patterns=allow_patterns):
            (Path(local_dir) / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(base / repo_id / name, Path(local_dir) / name)
        (Path(local_dir) / ".cache").mkdir()

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return base


@pytest.fixture
def named(tmp_path, monkeypatch):
    """Models that everybody loads by the name ``owner/KIND``: here, folders of that name."""

    def as_hub(settings):
        found = locate(settings)
        return replace(found, kind="hub") if settings.name.startswith("owner/") else found

    def put(kind, seed=0):
        tiny_model(kind, seed=seed, scale=0.4).save_pretrained(f"owner/{kind}")
        tiny_tokenizer().save_pretrained(f"owner/{kind}")
        return f"owner/{kind}"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("polyprompt.experiments.sharing.locate", as_hub)
    return put


def finished(toy_study, **changes):
    study = build_study(toy_study | {"grid": {}, "seed": 0} | changes, "toy")
    for _ in run_study(study):
        pass
    return study_folders(study)[0]


def answers(folder):
    found = Predictor.load(folder).answer([{"text": text} for text in TEXTS])
    return np.array([one.probabilities for one in found])


def test_a_shared_run_answers_as_it_did(toy_study, named, hub, tmp_path):
    run = finished(toy_study, backbone={"name": named("bert"), "max_tokens": 64})
    pushed = push(run.path, "me/toy", licence="cc-by-4.0")
    assert pushed.address.endswith("/me/toy/commit/1")
    taken = pull("me/toy", tmp_path / "new/taken")
    assert answers(taken.path) == pytest.approx(answers(run.path), abs=1e-6)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["taken"]
    assert find_run(taken.path).scores().equals(run.scores())


def test_no_text_no_answer_and_no_path_of_this_machine_is_shared(toy_study, named, hub, tmp_path):
    initial = tmp_path / "secret/start.safetensors"
    initial.parent.mkdir()
    import torch

    save_file({"weight": torch.zeros(3, 32)}, initial)
    parts = {"task": {"initial": {"kind": "file", "path": str(initial)}}}
    run = finished(toy_study, backbone={"name": named("bert"), "max_tokens": 64}, parts=parts)
    pushed = push(run.path, "me/toy")
    assert set(pushed.files) == {
        "README.md", "config.yaml", "run.json", "scores.parquet", "task.yaml",
        "parts/head.safetensors", "parts/task.safetensors",
    }  # fmt: skip
    for name in ("README.md", "config.yaml", "run.json"):
        text = (hub / "me/toy" / name).read_text()
        assert str(tmp_path) not in text, name
        assert "secret" not in text
    config = yaml.safe_load((hub / "me/toy/config.yaml").read_text())
    assert config["parts"]["task"]["initial"]["path"] == "start.safetensors"
    assert config["task"] == "task.yaml"
    assert config["data"] == Path(toy_study["data"]).name


def test_the_card_has_the_results_the_licences_and_the_marks(toy_study, named, hub):
    run = finished(toy_study, backbone={"name": named("bert"), "max_tokens": 64})
    record = run.record()
    note = "CONTAMINATED: bloomz was fine-tuned on xP3"
    run.amend({"backbone_notes": [note], "caution": "Small <b>set</b>.", "licence": "CC BY 4.0"})
    push(run.path, "me/toy", licence="cc-by-sa-4.0")
    card = ModelCard.load(hub / "me/toy/README.md")
    data = card.data.to_dict()
    assert data["library_name"] == "polyprompt"
    assert data["license"] == "cc-by-sa-4.0"
    assert data["base_model"] == "owner/bert"
    assert {"eng", "swh"} <= set(data["language"])
    assert "soft-prompt" in data["tags"]
    own = run.scores().filter(pl.col("baseline").is_null(), pl.col("metric") == "accuracy")
    values = {r["language"]: r["value"] for r in own.iter_rows(named=True)}
    told = {one.dataset_config: one.metric_value for one in card.data.eval_results}
    assert told == pytest.approx(values, abs=1e-4)
    text = card.content
    assert f"> ⚠ **{note}**" in text
    assert "Small &lt;b>set&lt;/b>." in text
    assert "licence: CC BY 4.0" in text
    assert "Licence of the trained parts: cc-by-sa-4.0" in text
    for code, value in values.items():
        line = next(x for x in text.splitlines() if f"| {code} |" in x)
        assert f"| {100 * value:.1f} |" in line
    assert str(record["train_examples"]) in text


def test_a_fit_says_that_its_numbers_come_from_folds(named, hub, tmp_path):
    from polyprompt import Classifier

    settings = {"layout": "{text}{task:2}", "training": {"epochs": 1}}
    classifier = Classifier(backbone={"name": named("bert"), "max_tokens": 64}, **settings)
    folder = tmp_path / "fit"
    texts, labels = ["wave a", "wave b", "rock a", "rock b"], ["sea", "sea", "hill", "hill"]
    classifier.fit(texts, labels, output=folder)
    card = push(folder, "me/fit").card
    assert "2-fold cross-validation" in card
    assert "come from folds of the very examples" in card
    taken = pull("me/fit", tmp_path / "taken")
    assert answers(taken.path) == pytest.approx(answers(folder), abs=1e-6)


def test_a_model_of_this_machine_is_shared_under_the_name_that_others_load_it_by(
    toy_study, named, hub, tiny_folder, tmp_path
):
    name = named("bert")
    shutil.copytree(name, tmp_path / "copy")
    run = finished(toy_study, backbone={"name": str(tmp_path / "copy"), "max_tokens": 64})
    with pytest.raises(BackboneError, match="on this machine alone. Name the same model"):
        push(run.path, "me/toy")
    push(run.path, "me/toy", base=name)
    taken = pull("me/toy", "taken")
    shutil.rmtree(tmp_path / "copy")
    assert answers(taken.path).shape == (len(TEXTS), 3)
    assert str(tmp_path) not in (hub / "me/toy/README.md").read_text()


def test_another_model_under_that_name_is_found_out(toy_study, named, hub, tmp_path):
    shutil.copytree(named("bert"), tmp_path / "copy")
    run = finished(toy_study, backbone={"name": str(tmp_path / "copy"), "max_tokens": 64})
    other = named("bert", seed=5)
    with pytest.raises(StoreError, match="is another model than .* a probability differs by 0"):
        push(run.path, "me/toy", base=other)
    assert not hub.exists()


def test_parts_of_a_language_go_along(toy_study, named, hub, tmp_path):
    name = named("bert")
    backbone = {"name": name, "max_tokens": 64}
    for number, language in enumerate(("eng_Latn", "swh_Latn")):
        first = finished(toy_study, backbone=backbone, name=f"first{number}")
        (tmp_path / "given").mkdir(exist_ok=True)
        shutil.copy(
            first.path / "parts/task.safetensors", tmp_path / f"given/{language}.safetensors"
        )
    source = str(tmp_path / "given/{language}.safetensors")
    run = finished(
        toy_study, backbone=backbone, name="second", layout="{lang}{text}{task:2}",
        targets=["eng_Latn", "swh_Latn"], parts={"lang": {"source": source}, "task": {}},
    )  # fmt: skip
    pushed = push(run.path, "me/toy")
    assert {f"given/lang-{x}.safetensors" for x in ("eng_Latn", "swh_Latn")} <= set(pushed.files)
    rows, codes = [{"text": text} for text in TEXTS], ["swh_Latn"] * len(TEXTS)
    before = [one.probabilities for one in Predictor.load(run.path).answer(rows, codes)]
    taken = pull("me/toy", tmp_path / "taken")
    shutil.rmtree(tmp_path / "given")
    after = [one.probabilities for one in Predictor.load(taken.path).answer(rows, codes)]
    assert np.array(after) == pytest.approx(np.array(before), abs=1e-6)
    for config in (hub / "me/toy").glob("*.json"):
        assert str(tmp_path) not in config.read_text()
    (taken.path / "given/lang-swh_Latn.safetensors").write_bytes(b"other")
    with pytest.raises(StoreError, match="which has changed"):
        Predictor.load(taken.path)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")
def test_peft_loads_what_is_beside_it(toy_study, named, hub):
    run = finished(
        toy_study, backbone={"name": named("llama"), "max_tokens": 48}, layout="{task:3}{text}",
        head={"kind": "verbalizer", "words": {"sea": "w", "hill": "r", "town": "b"},
              "leading_space": False},
        baselines=False,
    )  # fmt: skip
    card = push(run.path, "me/toy", peft=True).card
    assert 'PeftModel.from_pretrained(model, "me/toy")' in card
    assert "base_model_relation: adapter" in card
    model = AutoModelForCausalLM.from_pretrained("owner/llama")
    adapted = PeftModel.from_pretrained(model, hub / "me/toy")
    assert adapted.peft_config["default"].base_model_name_or_path == "owner/llama"
    assert json.loads((hub / "me/toy/polyprompt.json").read_text())["base_model"] == "owner/llama"
    plain = finished(toy_study, backbone={"name": named("bert"), "max_tokens": 64})
    with pytest.raises(ConfigError, match="cannot be a PEFT adapter|cannot be exported"):
        push(plain.path, "me/other", peft=True)


def test_what_is_no_run_is_not_taken_up(hub, tmp_path):
    (hub / "me/other").mkdir(parents=True)
    (hub / "me/other/README.md").write_text("x")
    (hub / "me/other/model.pt").write_text("x")
    with pytest.raises(
        StoreError, match="'me/other' is no run of polyprompt: it has no config.yaml"
    ):
        pull("me/other", tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["hub"]
    with pytest.raises(StoreError, match="'me/none': there is none of this name"):
        pull("me/none", tmp_path / "taken")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("x")
    with pytest.raises(StoreError, match="is not empty. Name a new folder"):
        pull("me/other", tmp_path / "full")


def test_a_part_from_elsewhere_is_refused(toy_study, named, hub, tmp_path):
    run = finished(toy_study, backbone={"name": named("bert"), "max_tokens": 64})
    push(run.path, "me/toy")
    shared = RunFolder(hub / "me/toy")
    shared.amend({"sourced_parts": {"x": {"eng_Latn": {"path": "../../a", "sha256": "0"}}}})
    with pytest.raises(StoreError, match="a part that is not among its files"):
        pull("me/toy", tmp_path / "taken")
    assert not (tmp_path / "taken").exists()


def test_push_and_pull_are_commands(toy_study, named, hub, tmp_path):
    run = finished(toy_study, backbone={"name": named("bert"), "max_tokens": 64})
    done = called("push", str(run.path), "me/toy", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "parts/task.safetensors" in done.stdout
    assert "# toy" in done.stdout
    assert not hub.exists()
    done = called("push", str(run.path), "me/toy", "--private")
    assert "Shared: https://huggingface.co/me/toy/commit/1" in done.stdout, done.stderr
    assert "No licence is named" in done.stdout
    done = called("pull", "me/toy", str(tmp_path / "taken"))
    assert done.returncode == 0, done.stderr
    assert "predict" in done.stdout
    again = called("pull", "me/toy", str(tmp_path / "taken"))
    assert "is not empty. Name a new folder" in again.stderr
    wrong = called("push", str(run.path), "no good name")
    assert "Expected owner/name" in wrong.stderr
