r"""gradient-snr: how the noise of gradients changes with the number of draws K.

The plain gradient of an importance-weighted bound tells the encoder less as K grows: its mean falls as 1/K, its
standard deviation only as \( K^{-1/2} \). The doubly reparameterised one falls as \( K^{-3/2} \), so that its ratio of
signal to noise rises as \( K^{1/2} \), as does the decoder's.

Protocol: \( z \sim N(\mu, I) \), \( x|z \sim N(z, I) \), D = 20, \( q(z|x) = N(Ax + b, \tfrac23 I) \); parameters are
those of the optimum (A = I/2, b = mu/2, mu the mean of 1,024 draws of x) plus normal noise of standard deviation 0.01;
one x; K from 10 to 1,000; 3,000 replicates of the gradient with respect to b (that of A is its outer product with x)
and mu, float64. Published slopes in log K: standard deviation -1/2 (IWAE, encoder and decoder) and -3/2 (DReG,
encoder); signal to noise +1/2 for DReG and the decoder, -1/2 for the encoder of IWAE. Gates: slopes within 0.1;
the means of both encoder gradients within 4 standard errors of their difference, everywhere. The signal of both is the
mean of DReG: the expectations agree, and the plain gradient's own average is all noise at large K.

Sources: Rainforth et al., "Tighter variational bounds are not necessarily better", 2018,
https://arxiv.org/abs/1802.04537, section 4; Tucker et al., "Doubly reparameterized gradient estimators", 2019,
https://arxiv.org/abs/1810.04152, section 6.1.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

import vaekit as vk
from reproductions.result import Check, Result

_DIMS, _REPLICATES, _COUNTS = 20, 3_000, (10, 32, 100, 316, 1_000)
_VALUES = 2**18  # draws times dimensions per pass: what fits a cache is twice as fast


class Replicates:
    """One row per replicate, each with its own copy of mu and b, so that one backward pass gives many gradients."""

    def __init__(self, a: Tensor, b: Tensor, mu: Tensor, rows: int) -> None:
        self.a, self.scale, self.one = a, a.new_tensor(2 / 3).sqrt(), a.new_ones(())
        self.b, self.mu = (t.expand(rows, -1).clone().requires_grad_() for t in (b, mu))

    def posterior(self, x: Tensor) -> Independent:
        """N(Ax + b, 2/3 I)."""
        return Independent(Normal(x @ self.a.T + self.b, self.scale, validate_args=False), 1)

    def prior(self) -> Independent:
        """N(mu, I)."""
        return Independent(Normal(self.mu, self.one, validate_args=False), 1)

    def likelihood(self, z: Tensor) -> Independent:
        """N(z, I)."""
        return Independent(Normal(z, self.one, validate_args=False), 1)


def gradients(objective: vk.objectives.Objective, parameters: tuple[Tensor, ...], x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the bound on x of shape (D,) with respect to b and mu, each of shape (replicates, D)."""
    size, parts = max(1, _VALUES // (_DIMS * objective.num_samples)), []
    for start in range(0, _REPLICATES, size):
        model = Replicates(*parameters, min(size, _REPLICATES - start))
        rows = x.expand(len(model.b), -1)
        value = -objective(model, rows).value * len(rows)  # the sum of the bounds
        parts.append(torch.autograd.grad(value, (model.b, model.mu)))
    b, mu = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return b, mu


def run(data_dir: str | Path | None = None) -> Result:
    """Measure means and standard deviations over K and fit the slopes."""
    with vk.engine.seeded(0):
        x = torch.randn(_DIMS, dtype=torch.float64) + 2**0.5 * torch.randn(1_024, _DIMS, dtype=torch.float64)
        mu = x.mean(0)
        best = (torch.eye(_DIMS, dtype=torch.float64) / 2, mu / 2, mu)
        near = tuple(part + 0.01 * torch.randn_like(part) for part in best)
        found: dict[str, list[Tensor]] = {}
        for count in _COUNTS:
            plain = gradients(vk.objectives.IWAE(count), near, x[0])
            doubly = gradients(vk.objectives.DReG(count), near, x[0])
            for name, values in (("IWAE encoder", plain[0]), ("decoder", plain[1]), ("DReG encoder", doubly[0])):
                found.setdefault(name, []).append(torch.stack([values.mean(0), values.std(0)]))
    moments = {name: torch.stack(values) for name, values in found.items()}  # (K, 2, D)
    slope = {name: _slope(values[:, 1]) for name, values in moments.items()}
    signal = {name: moments["decoder" if name == "decoder" else "DReG encoder"][:, 0].abs() for name in moments}
    ratio = {name: _slope(signal[name] / values[:, 1]) for name, values in moments.items()}
    plain_moments, doubly_moments = moments["IWAE encoder"], moments["DReG encoder"]
    error = (plain_moments[:, 1].square() + doubly_moments[:, 1].square()).sqrt() / _REPLICATES**0.5
    gap = ((plain_moments[:, 0] - doubly_moments[:, 0]).abs() / error).max()
    published = {"IWAE encoder": (-0.5, -0.5), "decoder": (-0.5, 0.5), "DReG encoder": (-1.5, 0.5)}
    checks = [Check(f"slope of the std, {n}", s, slope[n], s - 0.1, s + 0.1) for n, (s, _) in published.items()]
    checks += [Check(f"slope of the ratio, {n}", r, ratio[n], r - 0.1, r + 0.1) for n, (_, r) in published.items()]
    checks.append(Check("largest |mean(DReG) - mean(IWAE)| in standard errors", None, float(gap), 0.0, 4.0))
    stds = {name: [float(f"{v:.4g}") for v in values[:, 1].mean(1).tolist()] for name, values in moments.items()}
    return Result(tuple(checks), {"num_samples": list(_COUNTS), "replicates": _REPLICATES, "mean_std": stds})


def _slope(values: Tensor) -> float:
    """Least-squares slope in log K of the mean log of `values`, shape (K, D)."""
    return float(np.polyfit(np.log(_COUNTS), values.log().mean(1).numpy(), 1)[0])
