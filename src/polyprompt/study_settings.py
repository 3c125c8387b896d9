"""How studies are set: the settings of their runs, and the ways in which these differ."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from polyprompt.capabilities import EngineSettings, Languages, RunSettings
from polyprompt.part_settings import Settings


class HalvingSettings(Settings):
    """Successive halving (Jamieson and Talwalkar 2016): many points for few epochs, few for many.

    ``epochs`` has the number of each round, the least first; ``keep`` of the points of an arm go on
    from one round to the next, one at least.
    """

    epochs: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=2)
    keep: float = Field(default=1 / 3, gt=0, lt=1)

    @field_validator("epochs")
    @classmethod
    def _grow(cls, epochs: tuple[int, ...]) -> tuple[int, ...]:
        """Refuse rounds that do not grow."""
        if list(epochs) != sorted(set(epochs)):
            raise ValueError("every round takes more epochs than the one before")
        return epochs


class SearchSettings(Settings):
    """Settings that are chosen on the source languages' dev split before the study is run.

    ``grid`` maps dotted names to the values to try; in a study of arms ``arms`` has such a grid for
    every arm that is to be searched, all of one size. Every point is run with the draws of
    ``seeds``, which no run of the study may use, and scored on the whole dev split. Chosen is,
    among the points within one standard error of the best mean accuracy, the least loss.
    ``halving`` tries them in rounds; without it every point has all epochs of the study.
    """

    seeds: tuple[int, ...] = Field(default=(100, 101, 102), min_length=1)
    grid: dict[str, list[Any]] = {}
    arms: dict[str, dict[str, list[Any]]] = {}
    halving: HalvingSettings | None = None


class LaunchSettings(Settings):
    """Who computes a study's groups of runs; changes no result but by rounding.

    ``here``: this process, one group after the other. ``processes``: ``count`` processes on this
    machine, each with its share of the processor's cores or a GPU of its own. ``ray``: ``count``
    actors on a Ray cluster (``address``; None starts one here), each with ``cpus`` and ``gpus``;
    without ``count`` one per GPU, or per ``cpus`` where there is none. ``together``: ``count``
    processes that torchrun or accelerate has started, which share the rows of every step.
    """

    kind: Literal["here", "processes", "ray", "together"] = "here"
    count: int | None = Field(default=None, ge=1)
    address: str | None = None
    cpus: float = Field(default=1, gt=0)
    gpus: float | None = Field(default=None, ge=0)


Tracker = Literal[
    "aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard", "trackio", "wandb"
]
"""Names that accelerate knows; all but tensorboard are passed on as they are, and not tested."""


class StudySettings(RunSettings):
    """A study: the settings common to its runs, and the ways in which they differ.

    ``arms`` names sets of settings (dotted names to values) that are compared; ``grid`` maps dotted
    names of settings to lists of values. The study is the product of arms and grid. ``contrasts``
    names pairs of groups of languages (families, branches, scripts, codes) that are compared.
    ``interactions`` names pairs of pairs of settings (as tables title them): what the second of a
    pair has more than the first is compared between the pairs. ``trackers`` are told of every run's
    steps and scores.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str = ""
    output: str = "runs"
    arms: dict[str, dict[str, Any]] = {}
    grid: dict[str, list[Any]] = {}
    search: SearchSettings | None = None
    contrasts: dict[str, tuple[Languages, Languages]] = {}
    interactions: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {}
    engine: EngineSettings = EngineSettings()
    launch: LaunchSettings = LaunchSettings()
    trackers: tuple[Tracker, ...] = ()
