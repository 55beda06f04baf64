"""Conditional distributions: a network, and a head that turns its output into a distribution.

q(z|x) and p(x|z) are the same kind of thing (equations 13.6 and 13.16-13.18 of chapter 13 of "Neural Networks and Deep
Learning"): a network computes parameters, a head makes a distribution of them.
"""

from abc import ABC, abstractmethod
from math import prod

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit import engine
from vaekit.distributions.product import Missing
from vaekit.errors import ConfigError, ShapeError
from vaekit.printing import Printed
from vaekit.shapes import Shape, as_shape
from vaekit.traits import NetworkTraits, told


class ConditionalDistribution(Printed, ABC):
    """A head: raw parameters in, a distribution out. Likelihoods and posteriors are heads.

    Args:
        event_shape: shape of one event, an int or a tuple.
        num_params: P, the number of parameters per element, for elementwise families.
        param_shape: the shape of the raw parameters, for all other families.

    Attributes:
        event_shape: shape of one event, a tuple.
        param_shape: (P, *event_shape) for elementwise families.
        num_params: P, or None.
        takes_features: whether the raw parameters are features for networks of its own, which those of a network may be
            as they are.
        autocast_params: whether the layer that makes the parameters may run in low precision. Probabilities of bits
            bear it, the scale of a density does not.
        can_compile: whether torch.compile can take a training step through the distribution; False where a sampler
            rejects.
        min_scale: the floor of a scale that is learned, where the family has one.
        scale_is_fixed: whether the scale is a constant.
        missing: "observed-only" where NaN in a value means an element that was not observed, else "error".
        num_levels: L, where the values of each element are the numbers 0..L-1 of levels; 0 for other families.
        levels_argument: name of the constructor's argument that counts the values 0..L-1 of an element, which data can
            tell; None for all other families.
    """

    takes_features = False
    autocast_params = False
    can_compile = True
    min_scale: float | None = None
    missing: Missing = "error"
    num_levels: int = 0
    levels_argument: str | None = None

    def __init__(
        self, event_shape: Shape, *, num_params: int | None = None, param_shape: tuple[int, ...] | None = None
    ) -> None:
        super().__init__()
        self.event_shape = as_shape(event_shape)
        self.num_params = num_params
        if num_params is not None:
            self.param_shape: tuple[int, ...] = (num_params, *self.event_shape)
        elif param_shape is not None:
            self.param_shape = param_shape
        else:
            raise ShapeError("a head needs num_params (elementwise families) or param_shape")

    @property
    def scale_is_fixed(self) -> bool:
        """See the class."""
        return False

    @abstractmethod
    def forward(self, params: Tensor) -> Distribution:
        """Raw parameters of shape (..., *param_shape) to a distribution of batch shape (...)."""

    def unbind(self, params: Tensor) -> tuple[Tensor, ...]:
        """The P parameters of an elementwise family, each of shape (..., *event_shape)."""
        place = -len(self.event_shape) - 1
        # The gradient of unbind copies; that of squeeze, which is enough for one parameter, does not.
        return (params.squeeze(place),) if self.num_params == 1 else params.unbind(place)


class _PerElementConv(nn.Module):
    """A 1 x 1 convolution to the parameters of each pixel of an image event, as (B, *param_shape)."""

    def __init__(self, channels: int, param_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.param_shape = param_shape
        self.conv = nn.Conv2d(channels, prod(param_shape[:-2]), 1)

    def forward(self, h: Tensor) -> Tensor:
        result: Tensor = self.conv(h)
        return result


class _FlatLinear(nn.Module):
    """Flatten, and one linear layer to (B, number of parameters)."""

    def __init__(self, out_shape: tuple[int, ...], param_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.linear = nn.Linear(prod(out_shape), prod(param_shape))

    def forward(self, h: Tensor) -> Tensor:
        result: Tensor = self.linear(h.flatten(1))
        return result


def _adapter(out_shape: tuple[int, ...], head: ConditionalDistribution, is_features: bool) -> nn.Module:
    """The layer between a network's output and a head's parameters."""
    if out_shape == head.param_shape and (head.takes_features or not is_features):
        return nn.Identity()
    event = head.event_shape
    is_image = len(event) in (2, 3) and head.param_shape[-2:] == event[-2:]
    if is_image and len(out_shape) == 3 and out_shape[1:] == event[-2:]:
        return _PerElementConv(out_shape[0], head.param_shape)
    return _FlatLinear(out_shape, head.param_shape)


class Conditional(nn.Module):
    """A distribution of one variable given another: `head(adapter(network(x)))`.

    The adapter is nothing where the network already returns `head.param_shape`, unless it says that these are features,
    as an `MLP` does whose last layer happens to be as wide; a 1 x 1 convolution where it returns
    a feature map with the sides of an image event; otherwise one linear layer on the flattened output. Its size follows
    from `network.out_shape`, or from one dry run in eval mode. A network that tells neither its `out_shape` nor its
    `in_shape` is measured by the `VAE` that it becomes part of, or at its first call.

    Args:
        network: any module from (B, *in_shape) to (B, *out_shape).
        head: what makes a distribution of the parameters.
        in_shape: event shape of the input; None takes `network.in_shape`.

    Attributes:
        context_dim: E, entries of the context that the network takes beside its input; 0 where it takes none.

    Raises:
        ShapeError: if the network fails on an input of `in_shape`.

    Example:
        >>> import torch
        >>> from vaekit import likelihoods, networks
        >>> decoder = Conditional(networks.MLP(2, (8,)), likelihoods.Bernoulli((1, 4, 4)))
        >>> decoder(torch.zeros(5, 3, 2)).batch_shape
        torch.Size([5, 3])
    """

    def __init__(self, network: nn.Module, head: ConditionalDistribution, in_shape: Shape | None = None) -> None:
        super().__init__()
        self.network, self.head = network, head
        self.network_dtype = engine.NetworkDtype()
        self.adapter: nn.Module | None = None
        known = told(NetworkTraits, network)
        self.context_dim = known.context_dim
        shape = in_shape if in_shape is not None else known.in_shape
        self.in_shape = None if shape is None else as_shape(shape)
        if known.out_shape is not None or self.in_shape is not None:
            self._build_adapter()

    def build(self, in_shape: Shape) -> None:
        """Fix the input's event shape and create the adapter, unless both are known already.

        Raises:
            ShapeError: if the network was built for another shape of the same input.
        """
        shape = as_shape(in_shape)
        if self.in_shape is None:
            self.in_shape = shape
        elif self.in_shape != shape:
            raise ShapeError(
                f"{type(self.network).__name__} takes events of shape {self.in_shape}, but is given events of "
                f"shape {shape}. Build the network for {shape}."
            )
        if self.adapter is None:
            self._build_adapter()

    def _build_adapter(self) -> None:
        out_shape = told(NetworkTraits, self.network).out_shape
        if out_shape is None:
            assert self.in_shape is not None
            probe = torch.zeros(
                2, *self.in_shape, dtype=engine.model_dtype(self.network), device=engine.model_device(self.network)
            )
            out_shape = tuple(self._run_network(probe).shape[1:])
        is_features = told(NetworkTraits, self.network).returns_features
        adapter = _adapter(as_shape(out_shape), self.head, is_features)
        if engine.model_dtype(self.network) is not None:
            adapter = adapter.to(engine.model_device(self.network), engine.model_dtype(self.network))
        self.adapter = adapter

    def _run_network(self, probe: Tensor) -> Tensor:
        try:
            with engine.evaluating(self.network):
                context = (probe.new_zeros(len(probe), self.context_dim),) if self.context_dim else ()
                result: Tensor = self.network(probe, *context)
                return result
        except Exception as error:
            raise ShapeError(
                f"{type(self.network).__name__} fails on a batch of shape {tuple(probe.shape)} "
                f"(2 events of {self.in_shape}): {str(error).splitlines()[0]}"
            ) from error

    def params(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Raw parameters for x of shape (..., *in_shape): shape (..., *param_shape).

        Args:
            x: the input.
            context: what else the network takes, shape (..., E), its leading dimensions those of x or fewer of them; a
                network that takes none ignores it.
        """
        if self.adapter is None:
            self.build(x.shape[1:])
        assert self.adapter is not None
        ndims = len(self.in_shape) if self.in_shape is not None else x.ndim - 1
        if self.in_shape is not None and tuple(x.shape[x.ndim - ndims :]) != self.in_shape:
            raise ShapeError(f"expected events of shape {self.in_shape}; got a tensor of shape {tuple(x.shape)}")
        leading = x.shape[: x.ndim - ndims]
        flat = x if len(leading) == 1 else x.reshape(-1, *x.shape[x.ndim - ndims :])
        inputs = (flat, *self._beside(context, leading))
        low = self.network_dtype.here
        params = self.adapter(self.network(*inputs)) if low is None else self._low_precision(inputs, low)
        return params.reshape(*leading, *self.head.param_shape)

    def _beside(self, context: Tensor | None, leading: torch.Size) -> tuple[Tensor, ...]:
        """The context of each row of the flattened batch, where the network takes one.

        Raises:
            ConfigError: if there is none.
            ShapeError: if it is not one of E entries for each row.
        """
        if not self.context_dim:
            return ()
        if context is None:
            raise ConfigError(f"{type(self.network).__name__} takes a context of {self.context_dim} entries; got none")
        if context.shape[-1] != self.context_dim or context.shape[:-1] not in ((), (1,), *_tails(leading)):
            raise ShapeError(
                f"{type(self.network).__name__} takes contexts of shape ({', '.join(map(str, leading))}, "
                f"{self.context_dim}), one for each row; got {tuple(context.shape)}"
            )
        return (context.expand(*leading, self.context_dim).reshape(-1, self.context_dim),)

    def _low_precision(self, inputs: tuple[Tensor, ...], low: torch.dtype) -> Tensor:
        """The network in low precision; the layer that makes the parameters too, where the head bears it."""
        assert self.adapter is not None
        flat = inputs[0]
        with engine.autocast(flat.device, low):
            h = self.network(*inputs)
        low_params = low if self.head.autocast_params else None
        with engine.autocast(flat.device, low_params):
            result: Tensor = self.adapter(h if low_params else h.to(flat.dtype)).to(flat.dtype)
            return result

    def forward(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        """The distribution given x of shape (..., *in_shape), and a context; batch shape (...). See `params`."""
        result: Distribution = self.head(self.params(x, context))
        return result


def _tails(shape: torch.Size) -> list[torch.Size]:
    """The last dimensions of a shape, fewest first: those of any size are compared at last."""
    return [shape[i:] for i in reversed(range(len(shape)))]
