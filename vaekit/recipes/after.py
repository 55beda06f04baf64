"""What is settled on held-out rows once the best weights of a table's model are chosen."""

import logging

import torch
from torch import Tensor, nn

from vaekit import bounds, engine
from vaekit.models import VAE
from vaekit.models.rows import given, slices
from vaekit.models.view import View
from vaekit.priors import NormalMixture, StandardNormal
from vaekit.training import Callback, fit_prior
from vaekit.training.callbacks import Run
from vaekit.training.settings import VALID

_log = logging.getLogger("vaekit.training")
_SAMPLES, _MOST_ROWS, _BLOCK = 20, 2000, 100
_PRIOR = 0x707269  # place in the hash that makes seeds of the run's seed: of the draws that a prior is fitted to
FEWEST_ROWS = 300
"""Training rows, below which no prior is fitted unless that is asked for."""
_COMPONENTS, _DRAWS, _ERRORS = 20, 10_000, 2.0


def _bound(model: nn.Module, view: View, seed: int) -> Tensor:
    """The importance-weighted bound of each held-out row, with the same noise each time: shape (N,), float64."""
    found = []
    with torch.no_grad(), engine.evaluating(model), engine.seeded(engine.block_seed(seed, VALID)):
        for rows in slices(min(len(view), _MOST_ROWS), _BLOCK):
            batch = view.batch(rows)
            found.append(bounds.iwae(given(model, batch.context), batch.x, _SAMPLES).double())
    return torch.cat(found)


class KeepStart(Callback):
    """Goes back to the weights that training began with, unless it has gained on held-out rows, beyond chance.

    The gain of each row is the difference of two bounds with the same noise; their mean has to exceed its standard
    error.

    Args:
        model: the model before training, of which the weights are copied.
    """

    def __init__(self, model: nn.Module) -> None:
        self.weights = _copied(model)

    def on_weights_chosen(self, loop: Run) -> None:
        """Compare both."""
        if loop.valid is None or len(loop.valid) < 2:
            return
        chosen, now = _copied(loop.model), _bound(loop.model, loop.valid, loop.settings.seed)
        loop.model.load_state_dict(self.weights)
        mean, error = _mean_gain(now - _bound(loop.model, loop.valid, loop.settings.seed), loop.valid)
        if not mean < error:
            loop.model.load_state_dict(chosen)


class FitPrior(Callback):
    r"""Puts a mixture fitted to the aggregate posterior in the place of N(0, I), where held-out rows gain by it.

    A `NormalMixture` of 20 components is fitted to draws from q(z) (`training.fit_prior`), and stays if the
    importance-weighted bound of held-out rows is better by more than two standard errors of the mean difference.
    Everything that is asked of the model is then answered under it: log p, draws, fills.

    Args:
        always: fit it to few rows as well; otherwise 300 are needed.
    """

    def __init__(self, always: bool = False) -> None:
        self.always = always

    def on_weights_chosen(self, loop: Run) -> None:
        """Fit it, and compare both."""
        model = loop.model
        too_few = len(loop.train) < FEWEST_ROWS and not self.always
        if (
            loop.valid is None
            or len(loop.valid) < 2
            or too_few
            or not (isinstance(model, VAE) and isinstance(model.prior, StandardNormal))
        ):
            return
        seed = loop.settings.seed
        noise = torch.Generator().manual_seed(engine.block_seed(seed, _PRIOR))
        num_draws = max(_DRAWS, 2 * _COMPONENTS)
        prior = NormalMixture(tuple(model.latent_shape), num_components=_COMPONENTS)
        fitted = fit_prior(model, loop.train, prior, num_draws=num_draws, generator=noise)
        gain = _bound(fitted, loop.valid, seed) - _bound(model, loop.valid, seed)
        mean, error = _mean_gain(gain, loop.valid)
        is_better = mean > _ERRORS * error
        if is_better:
            model.prior = fitted.prior
            model.bind()
        done = "took the place of N(0, I)" if is_better else "was left out"
        _log.info("a mixture as p(z) %s: held-out bound %+.3f nats (standard error %.3f)", done, mean, error)


def _mean_gain(gain: Tensor, valid: View) -> tuple[float, float]:
    """Mean of the gains of held-out rows, by their weights, and its standard error."""
    weight = torch.ones_like(gain) if valid.weight is None else valid.weight[: len(gain)].to(gain)
    share = weight / weight.sum().clamp(min=1e-300)
    mean = (share * gain).sum()
    return float(mean), float((share * (gain - mean)).square().sum().sqrt())


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
