"""The variational mixture of posteriors."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.distributions import Ancestral, Mixture
from vaekit.errors import ConfigError, DataError, ShapeError
from vaekit.priors.pseudo_inputs import Range
from vaekit.shapes import Shape, as_shape

_SPREAD = 0.5  # standard deviation of the raw pseudo-inputs at the start


class VampPrior(nn.Module):
    r"""\( p(z) = \sum_k \pi_k\, q(z|u_k) \): the model's own posterior at K learned pseudo-inputs \( u_k \).

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
        self._bound: tuple[Any, Range, Any] | None = None
        if self.data_shape is not None:
            self._make_pseudo_inputs(self.data_shape)

    def _make_pseudo_inputs(self, shape: tuple[int, ...], like: Tensor | None = None) -> None:
        raw = _SPREAD * torch.randn(self.num_pseudo_inputs, *shape)
        self.pseudo_inputs = nn.Parameter(raw if like is None else raw.to(like))

    def bind(self, model: Any) -> None:
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

    def _parts(self) -> tuple[Any, Range, Any]:
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
    def initialize(self, x: Any) -> None:
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
        return encoder(x)
    finally:
        for module in restless:
            module.training = True


def _is_restless(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.dropout._DropoutNd | nn.modules.batchnorm._BatchNorm)
