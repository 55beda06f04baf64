"""Priors that are mixtures: of normals, and of posteriors at learned points."""

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal, constraints

from vaekit.distributions import Ancestral, Mixture, Normal, Product, element_support
from vaekit.distributions.links import to_scale
from vaekit.errors import ConfigError, DataError, ShapeError
from vaekit.printing import Printed
from vaekit.raw import entries_of, tril_of
from vaekit.shapes import Shape, as_shape
from vaekit.traits import Data

if TYPE_CHECKING:
    from vaekit.conditional import Conditional
    from vaekit.models.vae import VAE
    from vaekit.transforms import Transform

Covariance = Literal["diagonal", "full"]


class NormalMixture(Printed):
    r"""A learned mixture of Gaussians.

    \( p(z) = \sum_k \pi_k N(z; \mu_k, \Sigma_k) \) with learned weights, means and covariances.

    Use it where the data fall into groups, or to describe the aggregate posterior of a fitted model
    (`vaekit.training.fit_prior`); `VampPrior` needs fewer parameters where z has many dimensions. It begins spread out:
    means from N(0, I / 2) and variances 1/2, so that together the components have about the moments of N(0, I).

    References:
        Dilokthanakul et al., "Deep unsupervised clustering with Gaussian mixture variational autoencoders", 2016,
        https://arxiv.org/abs/1611.02648; Tomczak & Welling, "VAE with a VampPrior", 2018,
        https://arxiv.org/abs/1705.07120, where it is a baseline.

    Args:
        event_shape: shape of z.
        num_components: K.
        covariance: "diagonal", or "full" for events of one dimension.

    Raises:
        ConfigError: for K < 1 or another word.
        ShapeError: for full covariances of an event of more than one dimension.

    Example:
        >>> NormalMixture(4, num_components=3)().event_shape
        torch.Size([4])
    """

    def __init__(self, event_shape: Shape, num_components: int = 10, covariance: Covariance = "diagonal") -> None:
        super().__init__()
        self.event_shape, self.num_components, self.covariance = as_shape(event_shape), num_components, covariance
        if num_components < 1:
            raise ConfigError(f"a mixture has at least 1 component; got num_components={num_components}")
        if covariance not in ("diagonal", "full"):
            raise ConfigError(f'covariance is "diagonal" or "full"; got {covariance!r}')
        if covariance == "full" and len(self.event_shape) != 1:
            raise ShapeError(f"full covariances take events of one dimension; got shape {self.event_shape}. Flatten z.")
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.loc = nn.Parameter(0.5**0.5 * torch.randn(num_components, *self.event_shape))
        scale = torch.full((num_components, *self.event_shape), 0.5**0.5)
        if covariance == "diagonal":
            self.log_scale = nn.Parameter(scale.log())
        else:
            self.tril_entries = nn.Parameter(entries_of(torch.diag_embed(scale)))

    def forward(self) -> Mixture:
        """p(z), batch shape ()."""
        if self.covariance == "diagonal":
            normal = Normal(self.loc, to_scale(self.log_scale, "exp"), validate_args=False)
            return Mixture(self.logits, Product(normal, len(self.event_shape)))
        tril = tril_of(self.tril_entries, self.event_shape[0])
        return Mixture(self.logits, MultivariateNormal(self.loc, scale_tril=tril, validate_args=False))

    @torch.no_grad()
    def assign(self, weights: Tensor, loc: Tensor, covariance: Tensor) -> None:
        r"""Take the parameters from elsewhere.

        Args:
            weights: \( \pi_k \), shape (K,).
            loc: \( \mu_k \), shape (K, *Z).
            covariance: variances of shape (K, *Z), or full covariances of shape (K, D, D).

        Raises:
            ShapeError: if a shape does not fit.
        """
        size = self.event_shape[0]
        wanted = (self.num_components, *((size, size) if self.covariance == "full" else self.event_shape))
        came = (tuple(weights.shape), tuple(loc.shape), tuple(covariance.shape))
        if came != (tuple(self.logits.shape), tuple(self.loc.shape), wanted):
            raise ShapeError(
                f"expected weights, means and covariances of shape {tuple(self.logits.shape)}, {tuple(self.loc.shape)} "
                f"and {wanted}; got {came}"
            )
        self.logits.copy_(weights.clamp(min=torch.finfo(weights.dtype).tiny).log())
        self.loc.copy_(loc)
        if self.covariance == "diagonal":
            self.log_scale.copy_(0.5 * covariance.log())
        else:
            self.tril_entries.copy_(entries_of(torch.linalg.cholesky(covariance)))


_STEEPNESS = 4.0  # numbers of order 1 then cover an interval: the logistic of -4 to 4 is 0.02 to 0.98
_MARGIN = 0.02


class Range:
    """What the elements of a pseudo-input may be: an interval, the positive numbers, or all real numbers.

    Bits and levels lie in the interval that they span; counts among the positive numbers. Pseudo-inputs go into the
    encoder, never into the likelihood, so that values between two levels are welcome.

    Args:
        distribution: a p(x|z), whose support decides.
    """

    def __init__(self, distribution: Distribution) -> None:
        support: constraints.Constraint = element_support(distribution)
        self.interval: tuple[float, float] | None = None
        if support is constraints.boolean:
            self.interval = (0.0, 1.0)
        elif isinstance(support, constraints.interval | constraints.integer_interval):
            self.interval = (float(support.lower_bound), float(support.upper_bound))
        self.positive = support in (constraints.positive, constraints.nonnegative, constraints.nonnegative_integer)

    def inside(self, raw: Tensor) -> Tensor:
        """Any numbers to points of the range."""
        if self.interval is not None:
            low, high = self.interval
            return low + (high - low) * torch.sigmoid(_STEEPNESS * raw)
        return raw.exp() if self.positive else raw

    def raw(self, x: Tensor) -> Tensor:
        """The numbers behind points x; those at the edge of the range are moved a little way in."""
        if self.interval is not None:
            low, high = self.interval
            share = ((x - low) / (high - low)).clamp(_MARGIN, 1 - _MARGIN)
            return torch.logit(share) / _STEEPNESS
        # A count of 0 becomes 0.1: the logarithm of much less could not be left again by small steps.
        return x.clamp(min=0.1).log() if self.positive else x


_SPREAD = 0.5  # standard deviation of the raw pseudo-inputs at the start


class VampPrior(Printed):
    r"""The variational mixture of posteriors.

    \( p(z) = \sum_k \pi_k\, q(z|u_k) \): the model's own posterior at K learned pseudo-inputs \( u_k \).

    The best prior for the ELBO is the aggregate posterior \( \frac1N \sum_n q(z|x_n) \); the pseudo-inputs stand for
    the N data points. Use it first where the standard normal prior is too narrow a choice: it adds K points of data
    space as parameters, and one pass of the encoder over them per step. It works with any posterior whose density can
    be evaluated, and belongs to one `VAE`, which tells it its encoder (`bind`). Parts of the encoder that behave
    differently while training (dropout, batch norm) are in eval mode for this pass: p(z) is one fixed distribution.

    Pseudo-inputs stay in the range of the data (of the likelihood's support), by a logistic function where that is an
    interval. They begin as noise; `initialize(x)` lets them begin at rows of data, such as one mean per class:

        model.prior.initialize(class_means)  # one row per pseudo-input, before training

    References:
        Tomczak & Welling, "VAE with a VampPrior", 2018, https://arxiv.org/abs/1705.07120, equation 9.

    Args:
        event_shape: shape of z.
        data_shape: shape X of a pseudo-input; None takes that of the data once the prior is bound.
        num_pseudo_inputs: K.
        weights: "uniform" (1 / K each, the original) or "learned".

    Raises:
        ConfigError: for K < 1 or another word, and at a call before it is part of a model.

    Example:
        >>> import vaekit as vk
        >>> model, _ = vk.presets.vae((6,), latent_dim=2, prior=VampPrior(2, num_pseudo_inputs=5))
        >>> model.prior().num_components
        5
    """

    pseudo_inputs: nn.Parameter

    def __init__(
        self,
        event_shape: Shape,
        data_shape: Shape | None = None,
        num_pseudo_inputs: int = 500,
        weights: Literal["uniform", "learned"] = "uniform",
    ) -> None:
        super().__init__()
        if num_pseudo_inputs < 1:
            raise ConfigError(f"num_pseudo_inputs is at least 1; got {num_pseudo_inputs}")
        if weights not in ("uniform", "learned"):
            raise ConfigError(f'weights is "uniform" or "learned"; got {weights!r}')
        self.event_shape, self.num_pseudo_inputs, self.weights = as_shape(event_shape), num_pseudo_inputs, weights
        self.data_shape = None if data_shape is None else as_shape(data_shape, "data_shape")
        self.logits = nn.Parameter(torch.zeros(num_pseudo_inputs)) if weights == "learned" else None
        # What it is bound to, in a tuple: the model owns these parts, they are no submodules of its prior.
        self._bound: tuple[Conditional, Range, Transform | None] | None = None
        if self.data_shape is not None:
            self._make_pseudo_inputs(self.data_shape)

    def _make_pseudo_inputs(self, shape: tuple[int, ...], like: Tensor | None = None) -> None:
        raw = _SPREAD * torch.randn(self.num_pseudo_inputs, *shape)
        self.pseudo_inputs = nn.Parameter(raw if like is None else raw.to(like))

    def bind(self, model: "VAE") -> None:
        """Work through the encoder of `model`, a `VAE`.

        Raises:
            ShapeError: if the pseudo-inputs have another shape than the model's data.
        """
        if self.data_shape is None:
            self.data_shape = model.event_shape
            self._make_pseudo_inputs(self.data_shape, next(model.encoder.parameters(), None))
        elif self.data_shape != model.event_shape:
            raise ShapeError(f"the pseudo-inputs have shape {self.data_shape}, the model's data {model.event_shape}")
        with torch.no_grad():
            head, like = model.decoder.head, self.pseudo_inputs
            likelihood = head(torch.zeros(1, *head.param_shape, dtype=like.dtype, device=like.device))
        self._bound = (model.encoder, Range(likelihood), model.transform)

    def _parts(self) -> "tuple[Conditional, Range, Transform | None]":
        if self._bound is None:
            raise ConfigError(
                "a VampPrior is made of the posterior of its model and has none yet. Hand it to a VAE as the prior, or "
                "call bind(model)."
            )
        return self._bound

    def points(self) -> Tensor:
        """The pseudo-inputs u_k in model space, shape (K, *X): what they look like."""
        return self._parts()[1].inside(self.pseudo_inputs)

    @torch.no_grad()
    def initialize(self, x: Data) -> None:
        """Let the pseudo-inputs begin at rows of data: class means, or training rows, K of which are chosen at random.

        Args:
            x: rows in the units of the data, shape (N, *X) with N >= K; the model's transform is applied.

        Raises:
            DataError: if there are fewer than K rows.
            ShapeError: if the rows do not have the shape of the model's data.
        """
        _, bounds, transform = self._parts()
        x = torch.as_tensor(x)
        if tuple(x.shape[1:]) != self.data_shape:
            raise ShapeError(f"expected rows of shape (N, *{self.data_shape}); got {tuple(x.shape)}")
        if len(x) < self.num_pseudo_inputs:
            raise DataError(f"{self.num_pseudo_inputs} pseudo-inputs need as many rows to begin at; got {len(x)}")
        if len(x) > self.num_pseudo_inputs:
            x = x[torch.randperm(len(x))[: self.num_pseudo_inputs]]
        x = x.to(self.pseudo_inputs.device)
        y = x if transform is None else transform(x)
        self.pseudo_inputs.copy_(bounds.raw(y.to(self.pseudo_inputs.dtype)))

    def forward(self) -> Mixture:
        """p(z), batch shape (): one pass of the encoder over the pseudo-inputs."""
        encoder = self._parts()[0]
        logits = self.pseudo_inputs.new_zeros(self.num_pseudo_inputs) if self.logits is None else self.logits
        return Mixture(logits, self._of_top(_in_eval_mode(encoder, self.points())))

    def _of_top(self, q: Distribution) -> Distribution:
        """q(z|u) itself, or under a hierarchy the factor q(z_L|u) that it draws first."""
        if tuple(q.event_shape) == self.event_shape:
            return q
        if isinstance(q, Ancestral) and tuple(q.first.event_shape) == self.event_shape and q.order == "down":
            return q.first
        raise ConfigError(
            f"a VampPrior over events of shape {self.event_shape} needs q(z|x) of that shape, or one that begins at "
            f"the top layer of that size, such as TopDown or Ladder; got {q}"
        )


def _in_eval_mode(encoder: nn.Module, x: Tensor) -> Distribution:
    """q(z|x) with gradients, without dropout, and with the running statistics of batch norm, which stay as they are."""
    restless = [m for m in encoder.modules() if m.training and _is_restless(m)]
    for module in restless:
        module.training = False
    try:
        result: Distribution = encoder(x)
        return result
    finally:
        for module in restless:
            module.training = True


def _is_restless(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.dropout._DropoutNd | nn.modules.batchnorm._BatchNorm)
