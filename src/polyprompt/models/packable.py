"""Lets attention modules that transformers offers no replacement for attend by a pack.

BLOOM and XGLM write their attention out instead of calling a function of the model's choice. Their
projections stay their own; outside a packed pass so does everything else.
"""

from collections.abc import Callable
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from transformers.models.bloom.modeling_bloom import BloomAttention
from transformers.models.mt5.modeling_mt5 import MT5Attention
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.xglm.modeling_xglm import XGLMAttention

from polyprompt.models.packed import Pack, current_pack
from polyprompt.models.takeover import own_forward

PackedForward = Callable[..., tuple[Any, ...]]


def _bloom(
    module: BloomAttention, pack: Pack, hidden: Tensor, residual: Tensor, **_: Any
) -> tuple[Tensor, None]:
    """Attend as BLOOM does; the residual is added here, as there."""
    query, key, value = module._reshape(module.query_key_value(hidden))
    assert module.layer_idx is not None
    pack.enter(module.layer_idx)
    states = pack.attend(query[0], key[0], value[0], module.inv_norm_factor)
    return module.dense(states.flatten(1)[None]) + residual, None


def _xglm(module: XGLMAttention, pack: Pack, hidden: Tensor, **_: Any) -> tuple[Tensor, None]:
    """Attend as XGLM does."""
    query, key, value = (
        project(hidden).unflatten(-1, (module.num_heads, -1)).transpose(1, 2)
        for project in (module.q_proj, module.k_proj, module.v_proj)
    )
    assert module.layer_idx is not None
    pack.enter(int(module.layer_idx))
    states = pack.attend(query[0], key[0], value[0], module.scaling)
    return module.out_proj(states.flatten(1)[None]), None


def _t5(
    module: T5Attention | MT5Attention,
    pack: Pack,
    hidden: Tensor,
    key_value_states: Tensor | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor | None, None]:
    """Attend as T5 does, to its own stack or to the encoder; the pack knows the positions."""

    def heads(project: nn.Module) -> Tensor:
        return project(hidden)[0].unflatten(-1, (module.n_heads, -1)).transpose(0, 1)

    assert module.layer_idx is not None
    pack.enter(module.layer_idx)
    if key_value_states is None:
        states = pack.attend(heads(module.q), heads(module.k), heads(module.v), module.scaling)
    else:
        states = pack.attend_to_encoder(heads(module.q), module.scaling)
    return module.o(states.flatten(1)[None]), position_bias, None


_FORWARDS: dict[type[nn.Module], PackedForward] = {
    BloomAttention: _bloom,
    XGLMAttention: _xglm,
    T5Attention: _t5,
    MT5Attention: _t5,
}


def make_packable(model: nn.Module) -> None:
    """Teach a model's attention modules to attend by the pack of a packed pass."""
    for module in model.modules():
        packed_forward = _FORWARDS.get(type(module))
        if packed_forward is not None:
            module.forward = _by_pack(module, packed_forward)


def _by_pack(module: nn.Module, packed_forward: PackedForward) -> Callable[..., Any]:
    """Give a forward pass that is the module's own unless a pack is current."""
    own, held = own_forward(module), ref(module)

    @torch.compiler.disable
    def forward(hidden_states: Tensor, *args: Any, **options: Any) -> Any:
        pack = current_pack()
        if pack is None:
            return own(hidden_states, *args, **options)
        return packed_forward(held(), pack, hidden_states, *args, **options)

    return forward
