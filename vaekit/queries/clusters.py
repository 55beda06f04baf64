"""Which component of a mixture prior a row comes from."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit import engine
from vaekit.distributions.mixtures import log_components
from vaekit.errors import ConfigError
from vaekit.models.rows import as_tensor
from vaekit.queries.latents import enough, keys_of, latents, view_of
from vaekit.queries.weighted import mean_and_error, or_equal
from vaekit.shapes import check_count
from vaekit.traits import Data

Method = Literal["posterior", "importance"]


@dataclass(frozen=True)
class Clusters:
    """How probable each component of the prior is for each row.

    Attributes:
        probabilities: p(c|x), shape (N, C), float64; rows sum to 1.
        stderr: their Monte Carlo standard errors, shape (N, C), float64; NaN for a single draw.
        ess: effective number of draws of z behind each row, shape (N,), float64.
        num_samples: K, draws of z per row.
        method: what the draws stand for: "posterior", q(z|x), or "importance", p(z|x).
    """

    probabilities: Tensor
    stderr: Tensor
    ess: Tensor
    num_samples: int
    method: Method

    @property
    def cluster(self) -> Tensor:
        """The most probable component of each row, from 0, shape (N,), int64."""
        return self.probabilities.argmax(1)

    @property
    def sizes(self) -> Tensor:
        """How many rows have each component as their most probable one, shape (C,), int64."""
        return torch.bincount(self.cluster, minlength=self.probabilities.shape[1])

    @property
    def unreliable(self) -> Tensor:
        """Rows whose numbers rest on fewer than 10 effective draws of z, shape (N,), bool."""
        return self.ess < enough(self.num_samples)

    def __repr__(self) -> str:
        n, c = self.probabilities.shape
        used = int((self.sizes > 0).sum())
        return f"Clusters({n} rows, {used} of {c} components in use, K={self.num_samples}, method={self.method!r})"


def clusters(
    model: object,
    x: Data,
    num_samples: int = 100,
    *,
    method: Method = "posterior",
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Clusters:
    r"""p(c|x) of each row for a model whose prior is a mixture, \( p(z) = \sum_c \pi_c p(z|c) \).

    Under the model x depends on c through z alone, so that \( p(c|x) = E_{p(z|x)}[p(c|z)] \) with the responsibilities
    \( p(c|z) = \pi_c p(z|c) / p(z) \). Draws \( z_k \sim q(z|x) \) stand for p(z|x): alike, as VaDE has it (equation
    16), or with importance weights \( w_k \propto p(x|z_k) p(z_k) / q(z_k|x) \) that sum to 1, which is right for any
    q at the cost of K passes of the decoder.

    Use it to group rows by a model that `presets.vade` made and a run started, or by any other mixture. Components are
    numbered as the prior has them: the numbers mean nothing, and other seeds give other ones. A component is no class:
    compare with labels by `evaluation.cluster_agreement`, as a mean over seeds.

    References:
        Jiang et al., "Variational deep embedding: an unsupervised and generative approach to clustering", 2017,
        https://arxiv.org/abs/1611.05148.

    Args:
        model: any object with `posterior`, `prior` and `likelihood`, whose prior has components: `NormalMixture`,
            `VampPrior`, a `Hierarchical` one with a `VampPrior` at its top, torch's `MixtureSameFamily`.
        x: rows in the units of the data, shape (N, *X); NaN in holes, where the likelihood leaves them out.
        num_samples: K, draws of z per row.
        method: "posterior" or "importance".
        generator: source of the noise; None is torch's own stream.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        See `Clusters`. A row has the same answer alone and among others.

    Raises:
        ConfigError: if the prior has no components, K < 1, or there is no such method.
        ShapeError, DataError, SupportError: if the rows do not fit the model.

    Example:
        >>> import torch, vaekit as vk
        >>> with vk.engine.seeded(0):
        ...     prior = vk.priors.NormalMixture(2, num_components=3)
        ...     model, _ = vk.presets.vae((4,), latent_dim=2, hidden=(8,), likelihood="normal", prior=prior)
        >>> found = clusters(model, torch.zeros(2, 4), generator=torch.Generator().manual_seed(0))
        >>> found.probabilities.shape, found.probabilities.sum(1)
        (torch.Size([2, 3]), tensor([1., 1.], dtype=torch.float64))
    """
    check_count(num_samples, "num_samples")
    if method not in ("posterior", "importance"):
        raise ConfigError(f'method is "posterior" or "importance"; got {method!r}')
    view = view_of(model, x, "clusters")
    with engine.evaluating(view.model), engine.seeded(0):
        prior: Distribution = view.model.prior()
    size = num_components(view.model)
    if not size:
        raise ConfigError(
            f"clusters are the components of a mixture prior, and p(z) of this model is {prior}, which has none. Fit a "
            "model whose prior has them: the preset vade, or prior=normal-mixture, prior=vamp-prior."
        )
    seed = engine.draw_seed(generator)
    found = torch.zeros(2, len(view), size, dtype=torch.float64)
    ess = torch.zeros(len(view), dtype=torch.float64)
    keys = keys_of(as_tensor(view.rows))
    for part in latents(view, num_samples, seed, keys, weigh=method == "importance", progress=progress):
        with engine.evaluating(view.model):
            joint = log_components(prior, part.z)
        assert joint is not None
        given_z = joint.double().softmax(-1)
        mean, error = mean_and_error(given_z, or_equal(part.weights).unsqueeze(-1))
        found[:, part.rows] = torch.stack([mean / mean.sum(1, keepdim=True), error]).cpu()
        ess[part.rows] = part.ess.cpu()
    return Clusters(found[0], found[1], ess, num_samples, method)


def num_components(model: Any) -> int:
    """How many components the prior of a model has; 0 where it is no mixture."""
    with engine.evaluating(model), engine.seeded(0):
        prior: Distribution = model.prior()
        joint = log_components(prior, prior.sample())
    return 0 if joint is None else joint.shape[-1]
