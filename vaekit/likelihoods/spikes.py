"""Likelihood of numbers with point masses, such as amounts that are 0 for most."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Product
from vaekit.distributions import Spiked as SpikedDistribution
from vaekit.distributions.columns import ragged, ragged_places
from vaekit.errors import ConfigError
from vaekit.shapes import Shape


class Spiked(ConditionalDistribution):
    r"""Likelihood of numbers of which some values come up again and again: a density with point masses.

    \( p(x_d|z) = \pi_{dk}(z) \) where x is spike k of its element, and \( \pi_{d0}(z)\, p_d(x_d|z) \) elsewhere.

    Use it for amounts that are 0 for most (debts, rainfall) and for answers that were rounded. A density alone would
    grow without bound on such values, and never draw one of them. log p is the log of a mass at the spikes and of a
    density elsewhere.

    Where the data go through a transform, the spikes are those of model space, and the transform is
    `transforms.Spiked`, which counts no Jacobian at them; `vaekit fit` sets both.

    References:
        Aitchison, "On the distribution of a positive random variable having a discrete probability mass at the
        origin", 1955, https://doi.org/10.1080/01621459.1955.10501976.

    Args:
        event_shape: shape of x, (D,).
        density: a head of an elementwise density with as many elements.
        spikes: the spikes of each element, at least one of all.

    Raises:
        ConfigError: if the density has other events or is none, or no element has a spike.

    Example:
        >>> from vaekit.likelihoods import Normal
        >>> head = Spiked(1, Normal(1, scale=1.0), spikes=[[0.0]])
        >>> head(torch.zeros(1, 3)).log_prob(torch.tensor([[0.0]])).exp()
        tensor([0.5000])
    """

    values: Tensor
    _places: Tensor

    def __init__(self, event_shape: Shape, density: ConditionalDistribution, spikes: Sequence[Sequence[float]]) -> None:
        self.spikes = tuple(tuple(float(spike) for spike in of_element) for of_element in spikes)
        most = max(map(len, self.spikes), default=0)
        if density.num_params is None or density.event_shape != (len(self.spikes),) or most == 0:
            raise ConfigError(
                "Spiked takes an elementwise density and a list of spikes for each of its elements; got "
                f"{type(density).__name__} of events {density.event_shape} and {len(self.spikes)} lists"
            )
        self._sizes = [density.num_params * len(self.spikes), sum(1 + len(of_element) for of_element in self.spikes)]
        super().__init__(event_shape, param_shape=(sum(self._sizes),))
        self.density, self.missing, self.min_scale = density, density.missing, density.min_scale
        values = torch.full((len(self.spikes), most), torch.nan)
        for d, of_element in enumerate(self.spikes):
            values[d, : len(of_element)] = torch.tensor(of_element)
        self.register_buffer("values", values)
        self.register_buffer("_places", ragged_places([1 + len(of) for of in self.spikes]), persistent=False)

    def place(self, spikes: Sequence[Sequence[float]]) -> None:
        """Put the spikes elsewhere: where a transform, once fitted, leads them."""
        for d, of_element in enumerate(spikes):
            self.values[d, : len(of_element)] = torch.tensor(of_element, dtype=self.values.dtype)

    @property
    def scale_is_fixed(self) -> bool:
        """That of the density."""
        return self.density.scale_is_fixed

    def forward(self, params: Tensor) -> Product:
        """The parameters of the density, and the log-odds of density and spikes, shape (..., P), to p(x|z)."""
        of_density, logits = params.split(self._sizes, -1)
        base = self.density(of_density.unflatten(-1, self.density.param_shape)).base
        spiked = SpikedDistribution(base, self.values, ragged(logits, self._places))
        return Product(spiked, 1, missing=self.missing, quantity=spiked.quantity)
