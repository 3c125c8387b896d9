"""T5's relative positions: a number per head for how far a key stands from a query.

Source: Raffel et al. (2020), section 2.1; the buckets of distances are transformers' own function.
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class RelativeBias:
    """What is added to attention scores, all layers the same.

    Attributes:
        table: A row of heads per bucket.
        bucket: Gives the bucket of a distance, key's place minus query's.
    """

    table: Float[Tensor, "buckets H"]
    bucket: Callable[[Tensor], Tensor]

    def between(
        self, queries: Int[Tensor, "B G S"], keys: Int[Tensor, "B G1 T"]
    ) -> Float[Tensor, "B H G S T"]:
        """Give what is added, by the places of queries and keys."""
        distances = keys[:, :, None, :] - queries[..., None]
        return self.table.to(queries.device)[self.bucket(distances)].permute(0, 4, 1, 2, 3)
