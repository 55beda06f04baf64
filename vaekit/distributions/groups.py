"""A group of members that share one latent: independent given it, and made only where they are asked for."""

from collections.abc import Callable, Sequence

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from vaekit.distributions.product import Missing, Product
from vaekit.shapes import broadcast_shapes


class Group(Product):
    r"""\( p(x) = \prod_l p_l(x_l) \) over the L members of a group, the first dimension of an event (L, *X).

    It is the product over all elements that it says it is, and saves work where members are missing: with
    `missing="observed-only"`, `log_prob` makes p_l for those members of a group alone of which anything was observed,
    so that five glyphs of a font cost five passes, whatever L is. What asks for all members (`base`, `mean`, draws)
    makes all.

    Args:
        features: what the members share, shape (*batch, F).
        member: features of shape (..., M, F) and numbers of M members to the product over the elements of each, batch
            shape (..., M) and event shape X.
        event_shape: (L, *X).
        missing: that of the members.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> shift = torch.tensor([0.0, 1.0, 2.0])
        >>> member = lambda f, l: Product(Normal(f + shift[l, None], 1.0), 1, missing="observed-only")
        >>> group = Group(torch.zeros(1, 1), member, (3, 1), missing="observed-only")
        >>> group.log_prob(torch.tensor([[[torch.nan], [1.0], [torch.nan]]]))
        tensor([-0.9189])
    """

    makes_parts = True

    def __init__(
        self,
        features: Tensor,
        member: Callable[[Tensor, Tensor], Product],
        event_shape: Sequence[int],
        missing: Missing = "error",
    ) -> None:
        self.features, self.member, self._missing = features, member, missing
        self.missing = missing
        self.event_ndims, self._quantity = len(event_shape), None
        self._base: Distribution | None = None
        Distribution.__init__(self, features.shape[:-1], Size(event_shape), validate_args=False)

    def __repr__(self) -> str:
        return f"Group(batch_shape={tuple(self.batch_shape)}, event_shape={tuple(self.event_shape)})"

    @property
    def base(self) -> Distribution:  # type: ignore[override]
        """The elements of all members, batch shape (*batch, L, *X)."""
        if self._base is None:
            size = self.event_shape[0]
            features = self.features.unsqueeze(-2).expand(*self.batch_shape, size, -1)
            self._base = self.member(features, torch.arange(size, device=features.device)).base
        return self._base

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "Group":
        """The same distribution, repeated over `batch_shape`."""
        return Group(self.features.expand(*batch_shape, -1), self.member, self.event_shape, self._missing)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats, summed over the (observed) elements of the (observed) members, shape (*batch,)."""
        if self.missing == "error":
            return super().log_prob(value)
        leading = value.shape[: value.ndim - self.event_ndims]
        batch = broadcast_shapes(leading, self.batch_shape)
        if batch[len(batch) - len(leading) :] != leading:
            leading = batch
        rows = value.expand(*leading, *self.event_shape).reshape(-1, *self.event_shape)
        features = self.features.expand(*batch, -1).reshape(-1, len(rows), self.features.shape[-1])
        observed = ~rows.reshape(len(rows), self.event_shape[0], -1).isnan().all(-1)
        row, member = observed.nonzero(as_tuple=True)
        result = features.new_zeros(features.shape[:2])
        if len(row):
            found = self.member(features[:, row], member).log_prob(rows[row, member])
            result = result.to(found.dtype).index_add(1, row, found)
        return result.reshape(batch)
