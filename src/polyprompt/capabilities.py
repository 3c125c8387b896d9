"""What things can do and how they are set, known without loading torch.

A part's reach alone decides which engine is exact; the settings are the schema of ``study.yaml``.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Attention(StrEnum):
    """Who may look at whom.

    ``causal``: every token at what stands before it (decoders). ``one_way``: words at words,
    soft tokens at everything (encoders whose text can be cached). ``full``: all at all.
    """

    CAUSAL = "causal"
    ONE_WAY = "one_way"
    FULL = "full"


class Reach(StrEnum):
    """What a trained part can change: states after the input, of the whole sequence, or weights."""

    AFTER_INPUT = "after_input"
    WHOLE_SEQUENCE = "whole_sequence"
    WEIGHTS = "weights"


class FamilyTraits(BaseModel):
    """What a family of backbones offers.

    Attributes:
        attentions: Kinds of attention it can be run with; the first is the default.
        heads: Heads that can turn its states into answers; the first is the default.
    """

    model_config = ConfigDict(frozen=True)

    attentions: tuple[Attention, ...]
    heads: tuple[str, ...]


FAMILIES = {
    "embedding": FamilyTraits(
        attentions=(Attention.ONE_WAY, Attention.FULL), heads=("similarity",)
    ),
}
"""Families of backbones by name."""


class Settings(BaseModel):
    """Frozen settings that refuse keys they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class InitialSettings(Settings):
    """How a soft prompt begins.

    ``uniform`` in ±``bound`` (paper A: 0.5), ``normal`` with standard deviation ``bound``,
    ``vocabulary`` (random rows of the embedding table), ``text`` (the pieces of ``text``, repeated
    to the length), ``descriptions`` (pieces of the label descriptions in turn), or ``file``
    (a part saved by an earlier run).
    """

    kind: Literal["vocabulary", "uniform", "normal", "text", "descriptions", "file"] = "vocabulary"
    bound: float = Field(default=0.5, gt=0)
    text: str | None = None
    path: str | None = None


def _kind_only(value: Any) -> Any:
    """Let ``initial: vocabulary`` stand for ``initial: {kind: vocabulary}``."""
    return {"kind": value} if isinstance(value, str) else value


class SoftPromptSettings(Settings):
    """A soft prompt: ``length`` trained vectors in one slot of the layout."""

    kind: Literal["soft_prompt"] = "soft_prompt"
    length: int | None = Field(default=None, ge=1, le=4096)
    initial: Annotated[InitialSettings, BeforeValidator(_kind_only)] = InitialSettings()
    trained: bool = True


class PrototypeSettings(Settings):
    """What a class vector is made of: weights of the label description and of the examples."""

    descriptions: float = Field(default=1.0, ge=0)
    examples: float = Field(default=1.0, ge=0)


class SimilaritySettings(Settings):
    """Class scores are cosines to class vectors, divided by ``temperature``."""

    kind: Literal["similarity"] = "similarity"
    temperature: float = Field(default=0.01, gt=0)
    prototypes: PrototypeSettings = PrototypeSettings()


class BackboneSettings(Settings):
    """Which frozen model, and how it is run.

    ``name`` is ``pypi:NAME`` (a model that comes in a PyPI wheel), a folder, or a Hub name.
    ``text_prefix`` None means the model's own (E5: ``query: ``).
    """

    name: str = "pypi:multilingual-e5-small"
    family: Literal["embedding"] = "embedding"
    attention: Attention | None = None
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    text_prefix: str | None = None
    max_tokens: int = Field(default=256, ge=8, le=32768)


def _name_only(value: Any) -> Any:
    """Let ``backbone: NAME`` stand for ``backbone: {name: NAME}``."""
    return {"name": value} if isinstance(value, str) else value


class TrainingSettings(Settings):
    """How the parts are trained (AdamW; rates are per step, shares are of all steps)."""

    learning_rate: float = Field(default=0.03, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_share: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=1.0, gt=0)
    epochs: int = Field(default=20, ge=0)
    batch_size: int = Field(default=8, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    select: Literal["dev_loss", "last"] = "dev_loss"


class EngineSettings(Settings):
    """How forward passes are computed; changes speed and memory, never the result."""

    kind: Literal["auto", "cached", "direct"] = "auto"
    cache_budget_bytes: int = Field(default=2 * 1024**3, ge=0)
    tokens_per_batch: int = Field(default=4096, ge=1)
    threads: int | None = Field(default=None, ge=1)


def _as_list(value: Any) -> Any:
    """Let one language stand for a list of one."""
    return [value] if isinstance(value, str) else value


def _all_or_list(value: Any) -> Any:
    """Let ``all`` stand for every language there is, and one language for a list of one."""
    return None if value == "all" else _as_list(value)


Languages = Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]


class RunSettings(Settings):
    """One run: one backbone × task × parts × seed, every default written out.

    ``seed`` sets both ``draw_seed`` (which examples) and ``train_seed`` (initial value and order)
    unless these are given. ``targets`` None (written ``all``) tests every language there is.
    ``source_temperature`` None shares the examples equally among several
    source languages; T draws them in proportion to (rows of the language) ** (1 / T).
    ``article_gap`` g keeps drawn items at least g apart, in their ids' numbers, from one another
    and from every test item.
    """

    backbone: Annotated[BackboneSettings, BeforeValidator(_name_only)] = BackboneSettings()
    task: str
    data: str | None = None
    source: Languages = ("eng_Latn",)
    source_temperature: float | None = Field(default=None, gt=0)
    targets: Annotated[Languages | None, BeforeValidator(_all_or_list)] = None
    shots: Annotated[int, Field(ge=1)] | Literal["all"] = 8
    article_gap: int | None = Field(default=None, ge=1)
    seed: int = 0
    draw_seed: int | None = None
    train_seed: int | None = None
    layout: str | None = None
    parts: dict[str, SoftPromptSettings] = {"task": SoftPromptSettings()}
    head: SimilaritySettings = SimilaritySettings()
    training: TrainingSettings = TrainingSettings()
    baselines: bool = True


class StudySettings(RunSettings):
    """A study: the settings common to its runs, and the grid over which they differ.

    ``grid`` maps dotted names of settings to lists of values; the study is their product.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str = ""
    output: str = "runs"
    grid: dict[str, list[Any]] = {}
    engine: EngineSettings = EngineSettings()
