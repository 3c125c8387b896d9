"""Shipped studies can be planned, on the models they name or on another one."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from polyprompt.experiments.config import load_study
from polyprompt.experiments.plan import plan_study
from polyprompt.experiments.search import search_study
from polyprompt.models.tiny import tiny_model, tiny_tokenizer

CONFIGS = Path(__file__).parent.parent / "configs"
PAPER_A = sorted((CONFIGS / "philippy2024").glob("*.yaml"))
PAPER_B = sorted((CONFIGS / "park2023").glob("*.yaml"))
PAPER_C = sorted((CONFIGS / "vykopal2024").glob("*.yaml"))
FOLDERS = {"masakhaner": "masakhaner2"}
OURS = sorted((CONFIGS / "studies").glob("*.yaml"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    made = {}
    for kind in ("bloom", "xlm-roberta"):
        made[kind] = tmp_path_factory.mktemp(kind)
        model = tiny_model(kind)
        model.config.max_position_embeddings = 600  # planned, never run
        model.config.save_pretrained(made[kind])
        tiny_tokenizer().save_pretrained(made[kind])
    return made


def make_language_parts(value):
    """Files where a study looks for language parts; they are planned with, and never read."""
    languages = {"eng_Latn", *(value.get("targets") or [])}
    for arm in (value.get("arms") or {}).values():
        parts = arm.get("parts") or {}
        source = parts.get("language", {}).get("source", "")
        begun = (parts.get("task", {}).get("initial") or {}).get("path", "")
        for name in {*(source.replace("{language}", own) for own in languages), begun} - {""}:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            same = float(sum(map(ord, name)))  # other files, other contents
            save_file({"weight": torch.full((50, 32), same)}, name)


@pytest.mark.shared
@pytest.mark.parametrize("path", [*PAPER_A, *PAPER_B, *PAPER_C, *OURS], ids=lambda path: path.stem)
def test_a_shipped_study_can_be_planned_on_another_model(
    path, folders, sib200, tmp_path, monkeypatch
):
    """The same file with backbone=FOLDER; arms that this makes alike are one."""
    monkeypatch.chdir(tmp_path)
    make_language_parts(yaml.safe_load(path.read_text()))
    kind = "xlm-roberta" if "e5_" in path.stem else "bloom"
    task = yaml.safe_load(path.read_text())["task"]
    data = sib200 if task == "sib200" else sib200.parent / "tasks" / FOLDERS.get(task, task)
    overrides = [f"backbone={folders[kind]}", f"data={data}", f"output={tmp_path}"]
    if task in {"texts", "wikipedia"}:
        unlabelled = sib200.parent / "unlabelled" / "tatoeba.parquet"
        overrides[1] = f"data={sib200 / 'train.parquet'}\n{unlabelled}"
        overrides += ["task=texts"] + ["shots=all"] * (task == "wikipedia")
    study = load_study(str(path), overrides)
    groups = plan_study(study)
    assert sum(len(group.runs) for group in groups) == len(study.runs)
    assert {run.backbone.name for run in study.runs} == {str(folders[kind])}
    if study.settings.search is not None:
        trial = search_study(study)
        assert plan_study(trial)
    weights = [group for group in groups if group.trains_weights]
    assert all(len(group.runs) == 1 for group in weights)


def test_table_4_has_both_settings_of_four_models_in_their_languages():
    study = load_study(str(CONFIGS / "philippy2024" / "table4.yaml"))
    sizes = {run.arm: len(run.targets) for run in study.runs}
    assert len(sizes) == 8
    assert {n for arm, n in sizes.items() if "BLOOM" in arm} == {38}
    assert {n for arm, n in sizes.items() if "XGLM" in arm} == {30}
    rates = {run.arm: run.training.learning_rate for run in study.runs}
    assert rates["BLOOM-560M not frozen"] == 1e-6
    assert rates["XGLM-1.7B not frozen"] == 5e-6
    assert {rate for arm, rate in rates.items() if "not" not in arm} == {0.1}
    lengths = {run.arm: run.parts["task"].length for run in study.runs}
    assert lengths["BLOOM-560M frozen"] == lengths["BLOOM-560M not frozen"] == 5
