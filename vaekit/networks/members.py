"""The encoder of a group: one network for all members, which is told which member it sees."""

from math import prod

import torch
from torch import Tensor, nn

from vaekit.errors import ShapeError
from vaekit.networks.mlp import MLP
from vaekit.shapes import Shape, as_shape, check_count
from vaekit.traits import NetworkTraits, told


class MemberEncoder(nn.Module):
    r"""Numbers for each member of a group, by one network of the member and an embedding of its place.

    \( y_l = A\, h(n(x_l), e_l) \): features n of the member, the embedding \( e_l \) beside them, a hidden layer h, and
    a linear layer to numbers of shape `each`. A member all of whose elements are NaN costs nothing and gets NaN; in
    members that are there in part, a 0 stands for an element that is missing.

    Use it in front of `posteriors.ProductOfExperts`, with `each=(2, latent_dim)`: a mean and a raw precision.

    References:
        Bouchacourt et al., "Multi-level variational autoencoder", 2018, https://arxiv.org/abs/1705.08841.

    Args:
        in_shape: (L, *X), L the number of members.
        network: from a member to features.
        each: shape of the numbers that each member gets.
        embedding_size: numbers that tell a member's place.
        hidden: width of the hidden layer.
        activation: see `MLP`.

    Raises:
        ShapeError: if the network takes events of another shape than X.

    Example:
        >>> import torch
        >>> network = MemberEncoder((26, 8, 8), MLP((8, 8), (32,)), each=(2, 4))
        >>> x = torch.full((1, 26, 8, 8), torch.nan)
        >>> x[0, 3] = 0.0
        >>> network(x).isnan().all(-1).all(-1).sum(), network.out_shape
        (tensor(25), (26, 2, 4))
    """

    can_compile = False  # which members there are differs from batch to batch

    def __init__(
        self,
        in_shape: Shape,
        network: nn.Module,
        each: Shape,
        embedding_size: int = 16,
        hidden: int = 256,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        check_count(embedding_size, "embedding_size")
        self.in_shape, self.embedding_size, self.hidden = as_shape(in_shape, "in_shape"), embedding_size, hidden
        self.activation, self.each = activation, as_shape(each, "each")
        known = told(NetworkTraits, network)
        if known.in_shape is not None and tuple(known.in_shape) != self.in_shape[1:]:
            raise ShapeError(
                f"members of a group of shape {self.in_shape} have shape {self.in_shape[1:]}; the network takes "
                f"{tuple(known.in_shape)}"
            )
        features = known.out_shape
        if features is None:
            with torch.no_grad():
                features = network(torch.zeros(2, *self.in_shape[1:])).shape[1:]
        self.network = network
        self.embedding = nn.Embedding(self.in_shape[0], embedding_size)
        self.layers = nn.Sequential(
            MLP(prod(features) + embedding_size, (hidden,), activation), nn.Linear(hidden, prod(self.each))
        )
        self.out_shape = (self.in_shape[0], *self.each)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, *X) to (B, L, *out), NaN for members that are missing."""
        given = ~x.reshape(len(x), self.in_shape[0], -1).isnan().all(-1)
        row, member = given.nonzero(as_tuple=True)
        if not len(row):
            return x.new_full((len(x), *self.out_shape), torch.nan)
        features = self.network(x[row, member].nan_to_num(nan=0.0)).flatten(1)
        found: Tensor = self.layers(torch.cat([features, self.embedding(member).to(features.dtype)], 1))
        nothing = found.new_full((len(x), *self.out_shape), torch.nan)
        return nothing.index_put((row, member), found.reshape(-1, *self.each))
