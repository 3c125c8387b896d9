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
from test_languages import language_study

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

    def upload_folder(_, *, repo_id, folder_path, repo_type, commit_message, delete_patterns):
        there = [p.relative_to(base / repo_id).as_posix() for p in (base / repo_id).rglob("*.*")]
        for name in huggingface_hub.utils.filter_repo_objects(
            there, allow_patterns=delete_patterns
        ):
            (base / repo_id / name).unlink()
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
    assert "> ⚠ **CONTAMINATED: owner/bert was fine-tuned on xP3**" in text
    assert r"Small \<b\>set\</b\>." in text
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
    assert "unknown" not in card
    assert "learnt from 4 examples (all 4 examples given)" in card
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
        pull("me/other", tmp_path / "deep/taken")
    assert [p.name for p in tmp_path.iterdir()] == ["hub"]
    with pytest.raises(StoreError, match="'me/none': there is none of this name"):
        pull("me/none", tmp_path / "taken")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("x")
    with pytest.raises(StoreError, match="is not empty. Name a new folder"):
        pull("me/other", tmp_path / "full")


def test_a_pull_that_is_broken_off_leaves_nothing(hub, tmp_path, monkeypatch):
    def broken_off(repo_id, *, revision, local_dir, allow_patterns):
        Path(local_dir).mkdir()
        (Path(local_dir) / "scores.parquet").write_text("x")
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken_off)
    (tmp_path / "there").mkdir()
    for place in ("deep/er/taken", "there"):
        with pytest.raises(KeyboardInterrupt):
            pull("me/toy", tmp_path / place)
    assert [one.name for one in tmp_path.iterdir()] == ["there"]
    assert not list((tmp_path / "there").iterdir())


def test_a_part_from_elsewhere_is_refused(toy_study, named, hub, tmp_path):
    run = finished(toy_study, backbone={"name": named("bert"), "max_tokens": 64})
    push(run.path, "me/toy")
    shared = RunFolder(hub / "me/toy")
    shared.amend({"sourced_parts": {"x": {"eng_Latn": {"path": "../../a", "sha256": "0"}}}})
    with pytest.raises(StoreError, match=r"a part that is not among its files \(../../a\)"):
        pull("me/toy", tmp_path / "taken")
    assert not (tmp_path / "taken").exists()


def test_push_and_pull_are_commands(toy_study, named, hub, tmp_path):
    run = finished(toy_study, backbone={"name": named("bert"), "max_tokens": 64})
    done = called("push", str(run.path.parent), "me/toy", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "complete runs" not in done.stdout
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
    for name in ("no good name", "ownerless", "a/b/c"):
        wrong = called("push", str(run.path), name, "--dry-run")
        assert "Expected OWNER/NAME" in wrong.stderr
    wrong = called("push", str(run.path), "me/toy", "--licence", "My own: licence")
    assert "expected its abbreviation in small letters" in wrong.stderr


def test_what_a_run_before_it_left_in_the_repository_goes(toy_study, named, hub, tmp_path):
    backbone = {"name": named("bert"), "max_tokens": 64}
    first = finished(toy_study, backbone=backbone, layout="{text}{old:2}", parts={"old": {}})
    known = {"temperature": 5.0, "fitted": 6.0, "n": 80, "loss_before": 1.0, "loss_after": 0.9,
             "error_before": 0.2, "error_after": 0.1}  # fmt: skip
    (first.path / "calibration.json").write_text(json.dumps(known))
    push(first.path, "me/toy")
    assert (hub / "me/toy/calibration.json").is_file()
    second = finished(toy_study, backbone=backbone, name="second")
    push(second.path, "me/toy")
    left = {p.relative_to(hub / "me/toy").as_posix() for p in (hub / "me/toy").rglob("*.*")}
    assert not left & {"calibration.json", "parts/old.safetensors"}
    taken = pull("me/toy", tmp_path / "taken")
    assert answers(taken.path) == pytest.approx(answers(second.path), abs=1e-6)


def test_a_contaminated_model_is_marked_under_either_name(toy_study, named, hub, tmp_path):
    folder = named("bert")
    shutil.copytree(folder, tmp_path / "plain")
    shutil.copytree(folder, tmp_path / "home/mt0-copy")
    Path("owner/mt0-base").symlink_to(tmp_path / folder)
    run = finished(toy_study, backbone={"name": str(tmp_path / "plain"), "max_tokens": 64})
    card = push(run.path, "me/toy", base="owner/mt0-base").card
    assert "CONTAMINATED: owner/mt0-base was fine-tuned on xP3" in card
    home = f"{tmp_path}/home/../home/mt0-copy/"
    run = finished(toy_study, backbone={"name": home, "max_tokens": 64}, name="second")
    card = push(run.path, "me/toy", base=folder).card
    assert f"CONTAMINATED: {folder} was fine-tuned on xP3" in card
    for path in ("README.md", "run.json", "config.yaml"):
        assert "home" not in (hub / "me/toy" / path).read_text()


def test_a_trained_backbone_is_said_to_be_among_the_files(toy_study, named, hub, tmp_path):
    run = finished(
        toy_study, backbone={"name": named("bert"), "max_tokens": 64}, layout="{text}",
        parts={"model": {"kind": "full"}}, training={"max_steps": 1, "learning_rate": 1e-4},
    )  # fmt: skip
    card = push(run.path, "me/toy").card
    assert "numbers on the frozen backbone" not in card
    assert "its own weights trained (" in card
    assert "The changed backbone is among the files" in card
    assert "base_model_relation: finetune" in card
    taken = pull("me/toy", tmp_path / "taken")
    assert answers(taken.path) == pytest.approx(answers(run.path), abs=1e-6)


def test_a_card_of_ones_own_goes_along_without_comments_and_places(toy_study, named, hub):
    card = Path(toy_study["task"])
    value = yaml.safe_load(card.read_text())
    names = ("train", "dev", "test")
    files = {split: f"{toy_study['data']}/{split}.parquet" for split in names}
    value["local"] = {"files": files}
    card.write_text("# see /home/me/secret\n" + yaml.safe_dump(value))
    run = finished(toy_study, backbone={"name": named("bert"), "max_tokens": 64})
    push(run.path, "me/toy")
    shared = yaml.safe_load((hub / "me/toy/task.yaml").read_text())
    assert shared["local"]["files"] == {split: Path(path).name for split, path in files.items()}
    assert "secret" not in (hub / "me/toy/task.yaml").read_text()
    card.write_text("hello: [")
    again = push(run.path, "me/toy")
    assert "task.yaml" not in again.files
    assert yaml.safe_load((hub / "me/toy/config.yaml").read_text())["task"] == "toy"


def test_a_place_that_is_left_stops_it(toy_study, named, hub, tmp_path):
    run = finished(toy_study, backbone={"name": named("bert"), "max_tokens": 64})
    run.amend({"caution": f"Read from {Path.home()}/x."})
    with pytest.raises(StoreError, match="would tell of the place .* nothing was uploaded"):
        push(run.path, "me/toy")
    assert not hub.exists()
    run.amend({"caution": f"See example.org{Path.home()}-page."})
    push(run.path, "me/toy")


def test_of_a_study_one_run_is_shared_and_said_which(toy_study, named, hub):
    grid = {"seed": [0, 1, 2]}
    run = finished(toy_study, backbone={"name": named("bert"), "max_tokens": 64}, grid=grid)
    study = run.path.parent
    done = called("push", str(study), "me/toy")
    first = min(
        one.name for one in study.iterdir() if one.is_dir() and (one / "run.json").is_file()
    )
    assert f"Run {first}, the first by its name of 3 complete runs" in " ".join(done.stdout.split())
    assert "one run of a study of 3" in (hub / "me/toy/README.md").read_text()
    assert "one run of a study" not in push(study / first, "me/toy").card


def test_nothing_in_a_title_is_markup(toy_study, named, hub):
    run = finished(toy_study, backbone={"name": named("bert"), "max_tokens": 64})
    run.amend(
        {"task_title": "![x](http://evil/x.png) `a` <script>", "licence": "MIT](http://evil)"}
    )
    card = push(run.path, "me/toy").card
    for words in ("![", "](http", "<script", " `a`"):
        assert words not in card.replace(r"\!", "").replace(r"\]", "").replace(r"\<", "").replace(
            r"\`", ""
        ), words


def test_a_run_from_the_hub_is_neither_calibrated_nor_shared_again(toy_study, named, hub, tmp_path):
    run = finished(toy_study, backbone={"name": named("bert"), "max_tokens": 64})
    push(run.path, "me/toy")
    taken = pull("me/toy", tmp_path / "taken")
    assert (
        "was taken from the Hub, without the examples"
        in called("calibrate", str(taken.path)).stderr
    )
    assert "was taken from the Hub" in called("push", str(taken.path), "me/x").stderr


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("run.json", "[]", "Input should be a valid dictionary"),
        ("run.json", "{", "Cannot read run.json"),
        ("run.json", {}, "status: Field required"),
        ("run.json", {"sourced_parts": [1]}, "sourced_parts"),
        ("run.json", {"status": "failed"}, "its status is 'failed'"),
        ("run.json", {"layout": "{text", "task": "toy"}, "Layout"),
        ("run.json", {"backbone": "other/one"}, "its settings name the backbone 'owner/bert'"),
        ("config.yaml", {"training": {"epochs": "many"}}, "training.epochs"),
        ("config.yaml", {"task": "/etc/passwd.yaml"}, "a place on somebody's machine"),
        ("config.yaml", "a: [", "Cannot read config.yaml"),
        ("parts/task.safetensors", None, "the part 'task' is not among its files"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(
    toy_study, named, hub, tmp_path, file, change, words
):
    backbone = {"name": named("bert"), "max_tokens": 64}
    run = finished(toy_study, backbone=backbone, layout=None, parts={"task": {"length": 3}})
    push(run.path, "me/toy")
    path = hub / "me/toy" / file
    if change is None:
        path.unlink()
    elif isinstance(change, str):
        path.write_text(change)
    elif file.endswith("json"):
        old = json.loads(path.read_text()) if change else {}
        path.write_text(json.dumps(old | change))
    else:
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    done = called("pull", "me/toy", str(tmp_path / "deep/taken"))
    assert done.returncode == 1
    assert words in done.stderr
    assert ".pulled" not in done.stderr
    assert "Ask its owner to share it again" in done.stderr
    assert not (tmp_path / "deep").exists()


def test_the_folder_one_stands_in_can_be_the_place(toy_study, named, hub, tmp_path, monkeypatch):
    run = finished(toy_study, backbone={"name": named("bert"), "max_tokens": 64})
    push(run.path, "me/toy")
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "here")
    pull("me/toy", tmp_path / "link")
    assert RunFolder(tmp_path / "here").is_complete()
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    pull("me/toy", ".")
    assert RunFolder(tmp_path / "cwd").is_complete()
    assert not list((tmp_path / "cwd").glob(".*"))


def test_parts_of_languages_are_shared_for_tasks_to_take(named, hub, texts_folder, tmp_path):
    tiny_model("llama").save_pretrained("owner/llama")
    tiny_tokenizer().save_pretrained("owner/llama")
    training = {"max_steps": 1, "batch_size": 8, "learning_rate": 0.03}
    study = language_study("owner/llama", texts_folder, tmp_path, training=training)
    list(run_study(study))
    run = study_folders(study)[0]
    pushed = push(run.path, "me/eng")
    assert "`source: eng` under `parts`" in pushed.card
    assert "nats a guessed word" in pushed.card
    assert "predict" not in pushed.card
    done = called("pull", "me/eng", str(tmp_path / "taken"))
    assert done.returncode == 0, done.stderr
    assert "predict" not in done.stdout


def test_texts_that_need_a_language_are_asked_for_with_one(toy_study, named, hub):
    run = finished(
        toy_study, backbone={"name": named("bert"), "max_tokens": 64},
        layout="{instruction} {text}{task:2}", instructions={"default": "a b", "deu_Latn": "c d"},
    )  # fmt: skip
    card = push(run.path, "me/toy").card
    assert "predict toy new.csv --language deu_Latn" in card
    assert '.answer([{"text": "…"}], ["deu_Latn"])' in card
