"""The site says all that there is, and asks no other server."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import polyprompt
from polyprompt.study_settings import StudySettings
from programs import called

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))


def loaded(path):
    """Import a file by its place."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated():
    return loaded(ROOT / "docs/generated.py")


def test_every_setting_of_a_study_stands_on_the_page_of_settings(generated):
    page = generated.settings()
    for name in StudySettings.model_fields:
        assert f"| `{name}` |" in page
    assert "| `learning_rate` |" in page
    assert "Undefined" not in page


def test_every_command_stands_on_the_page_of_commands(generated):
    from polyprompt.cli.main import app

    page = generated.commands()
    names = [one.name or one.callback.__name__ for one in app.registered_commands]
    assert {"push", "pull", "run", "version"} <= set(names)
    for name in names:
        assert f"## `polyprompt {name}`" in page
    assert not re.search(r"^\* `\w+`: .*\.\.\.$", page, re.MULTILINE)


def test_every_front_door_stands_in_the_reference():
    page = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    for name in set(polyprompt.__all__) - {"__version__"}:
        assert f"polyprompt.{name}" in page
        assert getattr(polyprompt, name).__doc__


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_files_that_pages_name_exist(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:configs|benchmarks|scripts|examples|tests|src)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"polyprompt (?:run|check) (configs/\S+\.yaml)", text):
        assert (ROOT / path).is_file(), path


def test_a_page_that_asks_a_server_or_leads_nowhere_is_found(tmp_path):
    check = [sys.executable, str(ROOT / "scripts/check_site.py"), str(tmp_path)]
    (tmp_path / "a.html").write_text('<p id="here"><a href="a.html#here">x</a><img src="x.png">')
    assert subprocess.run(check, capture_output=True).returncode == 0
    (tmp_path / "b.html").write_text(
        '<script src="https://cdn/x.js"></script><link rel="stylesheet" href="//fonts/x.css">'
        '<a href="c.html">x</a><a href="a.html#there">y</a>'
    )
    (tmp_path / "s.css").write_text("@font-face { src: url(https://fonts/x.woff2) }")
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 1
    for words in ("loads https://cdn/x.js", "loads //fonts/x.css", "c.html leads nowhere",
                  "a.html#there: no such place", "s.css loads", "5 faults in 2 pages"):  # fmt: skip
        assert words in done.stdout


def test_the_task_of_ones_own_on_its_page_is_understood(tmp_path):
    page = (ROOT / "docs/own_data.md").read_text(encoding="utf-8")
    card, study = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mytask.yaml").write_text(card)
    (tmp_path / "parcels.yaml").write_text(study)
    data = tmp_path / "FOLDER"
    data.mkdir()
    for split, number in (("train", 9), ("dev", 3), ("test", 4)):
        rows = [
            f"{code}{label}{i},{code},{label},a {label} parcel {i}"
            for code in ("eng_Latn", "deu_Latn")
            for label in ("late", "broken", "lost")
            for i in range(number)
        ]
        (data / f"{split}.csv").write_text("\n".join(["id,language,label,text", *rows]) + "\n")
    done = called("check", "parcels.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "24 train, 6 dev, 24 test items in 2 languages" in done.stdout


def test_the_closed_form_of_the_page_on_backbones_trains_nothing(tmp_path):
    page = (ROOT / "docs/backbones.md").read_text(encoding="utf-8")
    assert '`layout: "{text}"`, `parts: {}` and `training: {epochs: 0, select: last}`' in page
    changes = ("layout={text}", "parts={}", "training.epochs=0", "training.select=last")
    done = called("check", str(ROOT / "configs/demo.yaml"), *changes, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
