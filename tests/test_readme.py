"""The README's commands and its Python example do what it says."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(real_backbone, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("['sports', 'health']")


def test_make_targets_that_readme_names_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", README, re.MULTILINE)) | {"check"} <= targets


@pytest.mark.parametrize("path", re.findall(r"configs/\S+\.yaml|docs/\S+\.md", README))
def test_files_that_readme_names_exist(path):
    assert (ROOT / path).exists()


def test_constraints_pin_what_pyproject_asks_for():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    names = {name.lower().replace("_", "-") for name in pins}
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    for requirement in wanted:
        assert re.match(r"[\w.-]+", requirement).group().lower() in names
