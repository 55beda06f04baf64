"""The likelihood of a group: members of one kind that share z, each told which one it is."""

from math import prod

import torch
from torch import Tensor, nn

from vaekit.conditional import Conditional, ConditionalDistribution
from vaekit.distributions import Group as GroupDistribution
from vaekit.distributions import Product
from vaekit.errors import ConfigError, ShapeError
from vaekit.shapes import Shape, as_shape, check_count
from vaekit.traits import NetworkTraits, told


class Group(ConditionalDistribution):
    r"""Likelihood of groups whose members share one latent, such as the letters of a font.

    \( p(x|z) = \prod_l p(x_l | z, e_l) \): one network and one likelihood for all members \( x_l \) of a group, which
    tell the members apart by an embedding \( e_l \). z is what the members have in common: their style.

    Use it where rows are sets of things of one kind in fixed places, of which any may be missing: glyphs, views of an
    object, measurements of one subject. With `missing="observed-only"` in the likelihood of a member, whole members may
    be NaN, and cost nothing. `networks.MemberEncoder` and `posteriors.ProductOfExperts` make the encoder to go with
    it, `objectives.HideCells(leading=1)` trains for any few members.

    References:
        Tenenbaum & Freeman, "Separating style and content with bilinear models", 2000,
        https://doi.org/10.1162/089976600300015349.
        Bouchacourt et al., "Multi-level variational autoencoder", 2018, https://arxiv.org/abs/1705.08841.

    Args:
        event_shape: (L, *X), L the number of members.
        head: the likelihood of a member, an elementwise one with events of shape X.
        network: from (F + E,) numbers to what the head takes: F features that the decoder's network makes of z, and
            the E numbers of the embedding.
        embedding_size: E.

    Raises:
        ShapeError: if the events do not fit each other, or the network takes no vector of more than E numbers.
        ConfigError: if the likelihood of a member is no product over elements.

    Example:
        >>> import torch
        >>> from vaekit.likelihoods import Bernoulli
        >>> from vaekit.networks import MLP
        >>> letters = Group((26, 8, 8), Bernoulli((8, 8), missing="observed-only"), MLP(4 + 16, (32,)))
        >>> letters.param_shape, letters(torch.zeros(5, 4)).mean.shape
        ((4,), torch.Size([5, 26, 8, 8]))
    """

    takes_features = True
    can_compile = False  # which members there are differs from batch to batch

    def __init__(
        self, event_shape: Shape, head: ConditionalDistribution, network: nn.Module, embedding_size: int = 16
    ) -> None:
        check_count(embedding_size, "embedding_size")
        event = as_shape(event_shape, "event_shape")
        if event[1:] != head.event_shape:
            raise ShapeError(
                f"a group of events {event} has members of shape {event[1:]}; {type(head).__name__} has events of "
                f"shape {head.event_shape}"
            )
        in_shape = told(NetworkTraits, network).in_shape
        if in_shape is None or len(in_shape) != 1 or prod(in_shape) <= embedding_size:
            raise ShapeError(
                f"the network of a member takes F features and {embedding_size} numbers of its embedding, an event of "
                f"shape (F + {embedding_size},); got one for {in_shape}"
            )
        super().__init__(event, param_shape=(prod(in_shape) - embedding_size,))
        self.embedding_size, self.missing = embedding_size, head.missing
        self.embedding = nn.Embedding(event[0], embedding_size)
        self.member = Conditional(network, head)
        with torch.no_grad():
            probe = head(torch.zeros(1, *head.param_shape))
        if not isinstance(probe, Product):
            raise ConfigError(
                "members of a group are products over their elements, such as Bernoulli or Normal; "
                f"{type(head).__name__} makes {probe}"
            )

    @property
    def network(self) -> nn.Module:
        """That of a member."""
        return self.member.network

    @property
    def head(self) -> ConditionalDistribution:
        """The likelihood of a member."""
        return self.member.head

    @property
    def scale_is_fixed(self) -> bool:
        """Whether that of a member is."""
        return self.head.scale_is_fixed

    def forward(self, params: Tensor) -> GroupDistribution:
        """Features of shape (..., F) to p(x|z)."""
        return GroupDistribution(params, self.of_members, self.event_shape, self.missing)

    def of_members(self, features: Tensor, members: Tensor) -> Product:
        """p(x_l|z) for features of shape (..., M, F) and the numbers l of M members, batch shape (..., M)."""
        embedded = self.embedding(members).expand(*features.shape[:-1], -1)
        result = self.member(torch.cat([features, embedded.to(features.dtype)], -1))
        assert isinstance(result, Product)
        return result
