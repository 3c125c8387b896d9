"""What stands behind a backbone's sub-layers: functions that add to the residual stream.

With h the stream and f a sub-layer's output, an attachment A makes h + f + A(h + f) of h + f. Where
a model normalises that sum (BERT, XLM-R), A reads what is normalised and is added in front of it:
the arrangement of Pfeiffer et al. (2020) in both cases. Several stand one behind the other.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from polyprompt.errors import BackboneError

Position = Literal["attention", "feed_forward"]


class Attachment(ABC):
    """What is added to the stream behind sub-layers."""

    @abstractmethod
    def added(
        self, layer: int, position: Position, stream: Float[Tensor, "... D"]
    ) -> Tensor | None:
        """Compute what is added; None for nothing.

        Args:
            layer: Whose sub-layer it is.
            position: Which of them.
            stream: What is read, normalised where the model normalises.
        """


@dataclass(frozen=True)
class _Site:
    """Where the output of a sub-layer meets the stream.

    Attributes:
        layer: Number of the layer.
        position: Which of its sub-layers.
        module: Whose output is watched.
        kind: Whether that output is the ``stream`` itself; or a ``branch``, which the stream that
            entered the layer is added to; or a ``norm`` of the stream.
    """

    layer: int
    position: Position
    module: nn.Module
    kind: Literal["stream", "branch", "norm"]


class Attachments:
    """The attachments of a backbone, and the places where they stand.

    Attributes:
        layers: How many layers there are.
        positions: Behind which sub-layers of them something can stand.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        """Find the places; nothing stands there yet."""
        sites = [site for index, layer in enumerate(layers) for site in _sites(index, layer)]
        self.layers = len(layers)
        found = {site.position for site in sites}
        self.positions = tuple(p for p in ("attention", "feed_forward") if p in found)
        self._stack: list[Attachment] = []
        self._entering: dict[int, Tensor] = {}
        self._hooks: list[Any] = []
        self._modules, self._sites = list(layers), sites

    def put(self, attachment: Attachment) -> None:
        """Put something behind what is there already."""
        if not self._stack:
            self._begin()
        self._stack.append(attachment)

    def take_away(self, attachment: Attachment) -> None:
        """Take something away, if it is there."""
        self._stack = [one for one in self._stack if one is not attachment]
        if not self._stack:
            self._end()

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Let passes be computed as if nothing stood there."""
        before, self._stack = self._stack, []
        try:
            yield
        finally:
            self._stack = before

    def clear(self) -> None:
        """Take everything away."""
        self._stack = []
        self._end()

    def check(self, positions: Sequence[Position], name: str) -> None:
        """Find out whether something can stand behind sub-layers.

        Raises:
            BackboneError: It cannot, in this model.
        """
        missing = [position for position in positions if position not in self.positions]
        if missing:
            raise BackboneError(
                f"{name}: the place behind the {missing[0]} sub-layer of its layers is not known. "
                "Set position=feed_forward."
            )

    def _begin(self) -> None:
        """Begin to watch the places."""
        branches = {site.layer for site in self._sites if site.kind == "branch"}
        for index, layer in enumerate(self._modules):
            if index not in branches:
                continue
            self._hooks.append(
                layer.register_forward_pre_hook(self._entered(index), with_kwargs=True)
            )
        for site in self._sites:
            self._hooks.append(site.module.register_forward_hook(self._left(site)))

    def _end(self) -> None:
        """Leave the model as it was."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._entering = [], {}

    def _entered(self, layer: int) -> Callable[..., None]:
        """Give a hook that notes the stream that enters a layer."""

        def hook(_module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            self._entering[layer] = args[0] if args else options["hidden_states"]

        return hook

    def _left(self, site: _Site) -> Callable[..., Any]:
        """Give a hook that adds to what leaves a sub-layer."""
        own = site.module.forward if site.kind == "norm" else None

        def hook(_module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            states = output[0] if isinstance(output, tuple) else output
            if own is not None:
                states = own(self._added(site, args[0], own))
            elif site.kind == "branch":
                entered = self._entering[site.layer]
                states = self._added(site, entered + states) - entered
            else:
                states = self._added(site, states)
            return (states, *output[1:]) if isinstance(output, tuple) else states

        return hook

    def _added(
        self, site: _Site, stream: Tensor, norm: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Let one attachment after the other add to the stream."""
        for attachment in self._stack:
            read = stream if norm is None else norm(stream)
            added = attachment.added(site.layer, site.position, read)
            stream = stream if added is None else stream + added
        return stream


def _sites(index: int, layer: nn.Module) -> list[_Site]:
    """Find the places of a layer.

    The feed-forward sub-layer is the last one of a layer, so that the layer's output is the stream
    behind it, unless a norm follows.
    """
    if _of(layer, "output.LayerNorm") is not None:  # BERT and its kin
        modules = _of(layer, "attention.output.LayerNorm"), _of(layer, "output.LayerNorm")
        return _both(index, modules, "norm")
    if getattr(layer, "do_layer_norm_before", True) is False:  # OPT-350M
        modules = _of(layer, "self_attn_layer_norm"), _of(layer, "final_layer_norm")
        return _both(index, modules, "norm")
    if _of(layer, "layer.0.SelfAttention") is not None:  # T5's sub-layers add the stream themselves
        return _both(index, (_of(layer, "layer.0"), layer), "stream")
    sites = [_Site(index, "feed_forward", layer, "stream")]
    of_bloom = _of(layer, "self_attention")  # adds the stream itself
    if of_bloom is not None:
        return [_Site(index, "attention", of_bloom, "stream"), *sites]
    branch = _of(layer, "self_attn") or _of(layer, "attn")
    if _of(layer, "pre_feedforward_layernorm") is not None:  # Gemma norms what a sub-layer gives
        branch = _of(layer, "post_attention_layernorm")
    return sites if branch is None else [_Site(index, "attention", branch, "branch"), *sites]


def _both(
    index: int, modules: tuple[nn.Module | None, nn.Module | None], kind: Literal["norm", "stream"]
) -> list[_Site]:
    """Give the places behind both sub-layers of a layer."""
    positions: tuple[Position, Position] = ("attention", "feed_forward")
    pairs = zip(positions, modules, strict=True)
    return [_Site(index, where, module, kind) for where, module in pairs if module is not None]


def _of(layer: nn.Module, path: str) -> nn.Module | None:
    """Find a module under a layer by its dotted name."""
    found: Any = layer
    for name in path.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, nn.Module) else None
