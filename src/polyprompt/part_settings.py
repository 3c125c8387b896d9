"""How parts are set: the schema of ``parts`` in ``study.yaml``, and how far each part reaches."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)


class Reach(StrEnum):
    """What a trained part can change: states after the input, of the whole sequence, or weights."""

    AFTER_INPUT = "after_input"
    WHOLE_SEQUENCE = "whole_sequence"
    WEIGHTS = "weights"


class Settings(BaseModel):
    """Frozen settings that refuse keys they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def as_list(value: Any) -> Any:
    """Let one name stand for a list of one."""
    return [value] if isinstance(value, str) else value


class _Beginning(Settings):
    """How a part begins; ``path`` belongs to one kind."""

    path: str | None = None

    @model_validator(mode="after")
    def _path_is_read(self) -> "_Beginning":
        """Refuse a file that nothing would read."""
        kind = getattr(self, "kind", "")
        if self.path is not None and kind != "file":
            raise ValueError(f"path is set, and kind is '{kind}': set kind to 'file' to read it")
        return self


class InitialSettings(_Beginning):
    """How a soft prompt begins.

    ``uniform`` in ±``bound`` (paper A: 0.5), ``normal`` with standard deviation ``bound``,
    ``vocabulary`` (random rows of the embedding table), ``text`` (the pieces of ``text``, repeated
    to the length; ``{Language}`` in it is the source language's English name, and with ``ends`` the
    tokenizer's end token is repeated with them, as in paper C; without words, those of the card's
    ``written.prompt``), ``descriptions`` (pieces of the
    label descriptions in turn), or ``file`` (a part saved by an earlier run).
    """

    kind: Literal["vocabulary", "uniform", "normal", "text", "descriptions", "file"] = "vocabulary"
    bound: float = Field(default=0.5, gt=0)
    text: str | None = None
    ends: bool = False


class DeepInitialSettings(_Beginning):
    """How a deep prompt begins: ``normal`` with standard deviation ``bound``, or a saved part."""

    kind: Literal["normal", "file"] = "normal"
    bound: float = Field(default=0.02, gt=0)


class ReparameteriserSettings(Settings):
    """A network that computes the prompt from trained vectors, trained with them, then folded away.

    ``residual_mlp`` is P + LayerNorm(up(ReLU(down(P)))) (Razdaibiedina et al. 2023; paper A as it
    is written), ``normed_mlp`` the same without the sum (paper A's released code), ``mlp``
    Linear(tanh(Linear(P))) (Li and Liang 2021), ``lstm`` a bidirectional LSTM and an MLP (Liu et
    al. 2021), ``transformer`` one encoder layer over the prompt. ``width`` is that of the hidden
    layer (residual prompt tuning: 800; paper A: 500 and 200); the LSTM's states have half of it
    each way, and 4 heads read in the transformer.
    """

    kind: Literal["residual_mlp", "normed_mlp", "mlp", "lstm", "transformer"]
    width: int = Field(default=800, ge=2, le=65536, multiple_of=2)


def _kind_only(value: Any) -> Any:
    """Let ``initial: vocabulary`` stand for ``initial: {kind: vocabulary}``."""
    return {"kind": value} if isinstance(value, str) else value


def _none_or_kind(value: Any) -> Any:
    """Let ``none`` stand for no network and a name for a network of the default width."""
    return None if value == "none" else _kind_only(value)


class SourcedSettings(Settings):
    """A part that can be taken, frozen, from earlier runs.

    ``source`` names where it lies: a file, the folder of a run, or the folder of a study with
    ``{language}`` behind it, e.g. ``runs/language_prompts/{language}``; a text is then read with
    the part of its own language, the source's in training, the target's at test. ``missing`` says
    what becomes of a target that has none: an ``error``, or it is answered without (``leave_out``)
    and marked.
    """

    source: str | None = None
    missing: Literal["error", "leave_out"] = "error"
    trained: bool = True

    @property
    def is_trained(self) -> bool:
        """Whether training moves it."""
        return self.trained and self.source is None


class SoftPromptSettings(SourcedSettings):
    """A soft prompt: ``length`` trained vectors in one slot of the layout.

    One with a ``source`` has the length it was saved with.
    """

    kind: Literal["soft_prompt"] = "soft_prompt"
    length: int | None = Field(default=None, ge=1, le=4096)
    initial: Annotated[InitialSettings, BeforeValidator(_kind_only)] = InitialSettings()
    reparameteriser: Annotated[ReparameteriserSettings | None, BeforeValidator(_none_or_kind)] = (
        None
    )


class DeepPromptSettings(Settings):
    """A deep prompt (P-tuning v2, Liu et al. 2022): ``length`` trained keys and values per layer.

    ``position`` ``prefix`` puts them in front of the input, where every token sees them; ``suffix``
    behind the text, where the soft tokens of the layout that follow the text see them, and the text
    is still computed once. ``projection`` is the hidden width of Linear(tanh(Linear(E))), which
    computes them from ``length`` trained vectors and is folded away on saving (P-tuning v2: 512);
    None trains the keys and values themselves. ``dropout`` is that on keys and values in training
    (P-tuning v2: 0.1). ``initial`` begins with a normal distribution of standard deviation
    ``bound``, by default 0.02, or with a part saved by an earlier run (``file``).
    """

    kind: Literal["deep_prompt"]
    length: int = Field(default=10, ge=1, le=4096)
    position: Literal["prefix", "suffix"] = "prefix"
    projection: int | None = Field(default=None, ge=1, le=65536)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    initial: Annotated[DeepInitialSettings, BeforeValidator(_kind_only)] = DeepInitialSettings()
    trained: bool = True

    @property
    def is_trained(self) -> bool:
        """Whether training moves it."""
        return self.trained

    @property
    def reach(self) -> Reach:
        """How far it reaches."""
        return Reach.AFTER_INPUT if self.position == "suffix" else Reach.WHOLE_SEQUENCE


class FullSettings(Settings):
    """All parameters of the backbone, its word table included, are trained.

    ``save`` False leaves the weights out of the run's folder, which then holds predictions and
    scores but cannot answer new texts.
    """

    kind: Literal["full"]
    save: bool = True

    @property
    def is_trained(self) -> bool:
        """Say that training moves it."""
        return True


class LoraInitialSettings(_Beginning):
    """How low-rank additions begin: with nothing (``zero``: B = 0), or with saved ones (``file``).

    ``path`` is a part saved by an earlier run, or what PEFT saved: ``adapter_model.safetensors``,
    or its folder.
    """

    kind: Literal["zero", "file"] = "zero"


class LoraSettings(Settings):
    """Low-rank additions to the backbone's projections (Hu et al. 2022), by the library PEFT.

    ``rank`` r and ``alpha``: an addition is alpha / r · BA. ``targets`` None takes every
    projection of the backbone's layers; otherwise the ends of their names, as PEFT has it.
    """

    kind: Literal["lora"]
    rank: int = Field(default=8, ge=1)
    alpha: int = Field(default=16, ge=1)
    targets: tuple[str, ...] | None = None
    initial: Annotated[LoraInitialSettings, BeforeValidator(_kind_only)] = LoraInitialSettings()

    @property
    def is_trained(self) -> bool:
        """Say that training moves it."""
        return True


class AdapterInitialSettings(_Beginning):
    """How an adapter begins: ``normal`` with standard deviation ``bound``, or a saved part."""

    kind: Literal["normal", "file"] = "normal"
    bound: float = Field(default=0.02, gt=0)


class BottleneckAdapterSettings(SourcedSettings):
    """A bottleneck adapter (Houlsby et al. 2019; Pfeiffer et al. 2020) behind sub-layers.

    With h the residual stream and f a sub-layer's output, h + f becomes h + f + A(h + f), A(z) =
    up(activation(down(z))); where a model normalises the sum, A reads what is normalised and is
    added in front of it. ``position`` is behind the ``feed_forward`` sub-layer of every layer, or
    behind ``both``. ``reduction`` divides the width of the stream (paper C: 16). The first that a
    run lists stands first. The biases begin with 0.
    """

    kind: Literal["bottleneck_adapter"]
    position: Literal["feed_forward", "both"] = "feed_forward"
    reduction: float = Field(default=16, ge=1, le=4096)
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    initial: Annotated[AdapterInitialSettings, BeforeValidator(_kind_only)] = (
        AdapterInitialSettings()
    )


WEIGHT_KINDS = ("full", "lora", "bottleneck_adapter")
PART_KINDS = ("soft_prompt", "deep_prompt", *WEIGHT_KINDS)
"""Kinds of parts; those of the former reach the weights."""


def _part_kind(value: Any) -> str | None:
    """Find which part is meant; a part without a kind is a soft prompt."""
    if isinstance(value, BaseModel):
        return getattr(value, "kind", None)
    return value.get("kind", "soft_prompt") if isinstance(value, dict) else None


PartSettings = Annotated[
    Annotated[SoftPromptSettings, Tag("soft_prompt")]
    | Annotated[DeepPromptSettings, Tag("deep_prompt")]
    | Annotated[FullSettings, Tag("full")]
    | Annotated[LoraSettings, Tag("lora")]
    | Annotated[BottleneckAdapterSettings, Tag("bottleneck_adapter")],
    Discriminator(
        _part_kind,
        custom_error_type="part_kind",
        custom_error_message="there is no such part; expected kind 'soft_prompt', 'deep_prompt', "
        "'bottleneck_adapter', 'full' or 'lora'",
    ),
]
