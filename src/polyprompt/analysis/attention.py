"""Where attention goes: the example's text, the soft prompt, or fixed words and special tokens.

Axes: N items, L layers, H heads; readers and kinds as in ``records``.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def attention_profile(
    weights: Float[np.ndarray, "N L H 3 3"], languages: Sequence[str], chosen: Sequence[str]
) -> Float[np.ndarray, "L 3 3"]:
    """Average the weight that readers give to kinds of tokens, over heads, items and languages.

    Args:
        weights: Of each item.
        languages: Of each item.
        chosen: Languages to average over, each counting the same.

    Returns:
        Per layer, reader and kind; not a number where no item has such a reader.
    """
    of_item = np.array(languages)
    means = [weights[of_item == code].astype(np.float64).mean((0, 2)) for code in chosen]
    return np.mean(means, axis=0)
