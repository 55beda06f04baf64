r"""After training: a prior fitted to the aggregate posterior takes the place of the model's own.

Where q(z), the average of q(z|x) over the data, is not p(z), samples start at codes that the decoder never saw. With
encoder and decoder as they are, the mean ELBO is \( \frac1N \sum_n E_q[\log p(x_n|z) - \log q(z|x_n)] + E_{q(z)}[\log
p(z)] \): of the prior it asks only the last term, the log-likelihood of draws from q(z).
"""

import copy
import math
import warnings

import torch
from torch import Tensor, nn

from vaekit import engine
from vaekit.distributions import check_support
from vaekit.errors import ConfigError, DataError, ShapeError, TrainingError
from vaekit.models import VAE
from vaekit.models.base import GenerativeModel
from vaekit.models.view import View
from vaekit.priors import NormalMixture
from vaekit.progress import track
from vaekit.traits import Data, PartTraits, told

_ROWS = 1024  # draws whose support is checked
_HELD_OUT = 10  # one in so many draws chooses the best epoch


def fit_prior(
    model: GenerativeModel,
    x: Data,
    prior: nn.Module | None = None,
    *,
    num_draws: int = 50_000,
    max_epochs: int = 50,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> VAE:
    r"""A copy of a fitted model whose prior is fitted to its aggregate posterior (two-stage training).

    The mean ELBO on x can only rise, as far as the family of the prior reaches; log p(x) under the new prior is
    evaluated, and the model saved, like that of any other model. A `NormalMixture` is fitted by the EM algorithm
    (scikit-learn's), any other prior with parameters by gradient steps on \( E_{q(z)}[\log p(z)] \), which keep the
    epoch that explains held-out draws best. Fit it to the training data; compare on others.

    References:
        Ghosh et al., "From variational to deterministic autoencoders", 2020, https://arxiv.org/abs/1903.12436 (density
        estimation after training); Dai & Wipf, "Diagnosing and enhancing VAE models", 2019,
        https://arxiv.org/abs/1903.05789 (two stages).

    Args:
        model: a fitted `VAE`; it stays as it is.
        x: training data in their own units, shape (N, *X), or a view of them; weights of its rows count.
        prior: becomes the prior of the result and is fitted in place; None is a `NormalMixture` of 10 components, with
            full covariances where z has one dimension of at most 64 entries.
        num_draws: draws from q(z) in all; rows are used several times, or only some of them.
        max_epochs: passes over the draws; for a mixture, iterations of EM are up to four times as many.
        batch_size: draws per gradient step.
        learning_rate: of Adam, which falls to 0 along a cosine.
        generator: source of the draws and of the start of EM.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        The model, in eval mode.

    Raises:
        ConfigError: if the model's prior cannot be exchanged, the new one has nothing to fit, or a count is below 1.
        ShapeError, SupportError, DataError: if x does not fit the model, or the prior does not fit z.
        TrainingError: if log p(z) stops being finite.

    Example:
        >>> import torch, vaekit as vk
        >>> model, _ = vk.presets.vae((4,), latent_dim=2, hidden=(8,), likelihood="normal")
        >>> x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
        >>> fitted = fit_prior(model, x, vk.priors.NormalMixture(2, num_components=3), num_draws=500)
        >>> fitted.prior().num_components
        3
    """
    for name, count in {"num_draws": num_draws, "max_epochs": max_epochs, "batch_size": batch_size}.items():
        if count < 1:
            raise ConfigError(f"{name} is at least 1; got {count}")
    fitted = _with_prior(model, prior)
    view = View.of(model, x)
    with engine.seeded(engine.draw_seed(generator)):
        z = _aggregate_draws(view, num_draws)
        with engine.evaluating(fitted):
            check_support(fitted.prior(), z[:_ROWS], where="z")
        if isinstance(fitted.prior, NormalMixture):
            fit_mixture(fitted.prior, z, 4 * max_epochs)
        else:
            _maximize(fitted.prior, z, max_epochs, batch_size, learning_rate, progress)
    return fitted


def _with_prior(model: GenerativeModel, prior: nn.Module | None) -> VAE:
    """A copy of the model with another prior, in eval mode."""
    if not isinstance(model, VAE):
        raise ConfigError(
            f"fit_prior exchanges the module `prior` of a model such as VAE; {type(model).__name__} has none"
        )
    head = model.encoder.head
    if told(PartTraits, head).bind is not None:
        raise ConfigError(
            f"the posterior {type(head).__name__} is made of the prior's own conditionals, which cannot "
            "be exchanged under it. Train with a posterior that stands alone, such as TopDown or DiagonalNormal."
        )
    shape = tuple(model.latent_shape)
    if prior is None:
        prior = NormalMixture(shape, covariance="full" if len(shape) == 1 and shape[0] <= 64 else "diagonal")
    if not any(p.requires_grad for p in prior.parameters()) and told(PartTraits, prior).bind is None:
        raise ConfigError(f"{type(prior).__name__} has no parameters to fit. Hand in a mixture, a flow or a VampPrior.")
    fitted = copy.deepcopy(model)
    fitted.prior = prior.to(engine.model_device(model), engine.model_dtype(model))
    fitted.bind()
    own = tuple(told(PartTraits, prior).event_shape or shape)
    if own != shape:
        raise ShapeError(f"the prior has events of shape {own}, the model's z has shape {shape}")
    return fitted.eval()


def _aggregate_draws(view: View, num_draws: int) -> Tensor:
    """Draws from q(z), shape (num_draws, *Z), in random order; rows with weights as often as these say."""
    if view.weight is not None and bool(view.weight.any()):
        rows = torch.multinomial(view.weight.double().cpu(), num_draws, replacement=True)
    else:
        repeats = math.ceil(num_draws / len(view))
        rows = torch.cat([torch.randperm(len(view)) for _ in range(repeats)])[:num_draws]
    return view.encode(mean=False, indices=rows, fresh=True)


def fit_mixture(
    prior: NormalMixture, z: Tensor, max_iter: int, num_starts: int = 1, widened: Tensor | None = None
) -> None:
    """Fit a mixture to points z by the EM algorithm, started from k-means; the most likely of several starts stays.

    Args:
        prior: the mixture, which gets new parameters.
        z: draws or codes, shape (N, *Z).
        max_iter: iterations of EM at most.
        num_starts: how many starts.
        widened: variances that are added to those of all components afterwards, shape (*Z); None adds none.

    Raises:
        DataError: if there are fewer than two draws for each component.
    """
    import threadpoolctl  # type: ignore[import-untyped]
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if len(z) < 2 * prior.num_components:
        raise DataError(f"{prior.num_components} components need at least twice as many draws; got {len(z)}")
    em = GaussianMixture(
        prior.num_components,
        covariance_type="full" if prior.covariance == "full" else "diag",
        max_iter=max_iter,
        n_init=num_starts,
        random_state=engine.draw_seed(None) % 2**32,
    )
    # One thread: the sums of several come in the order in which these end, and a fit would not repeat bit for bit.
    with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # a last step below 1e-3 nats, or max_iter: either will do
        em.fit(z.flatten(1).double().cpu().numpy())
    weights, loc, covariance = (torch.from_numpy(a).to(z) for a in (em.weights_, em.means_, em.covariances_))
    if prior.covariance == "diagonal":
        covariance = covariance.reshape(-1, *prior.event_shape)
    if widened is not None:
        covariance = covariance + (widened if prior.covariance == "diagonal" else torch.diag(widened))
    prior.assign(weights, loc.reshape(-1, *prior.event_shape), covariance)


def _maximize(
    prior: nn.Module, z: Tensor, max_epochs: int, batch_size: int, learning_rate: float, progress: bool
) -> None:
    """Gradient steps on the mean of log p(z); the weights of the epoch that suits held-out draws best stay."""
    if len(z) < 2:
        raise DataError(f"fit_prior needs at least 2 draws; got {len(z)}")
    held_out = max(1, len(z) // _HELD_OUT)
    valid, train = z[:held_out], z[held_out:]
    parameters = [p for p in prior.parameters() if p.requires_grad]
    optimizer = engine.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_epochs)
    best, best_state = _mean_log_prob(prior, valid), copy.deepcopy(prior.state_dict())
    epochs = range(max_epochs)
    for _ in track(epochs, "fitting the prior") if progress else epochs:
        prior.train()
        for rows in torch.randperm(len(train)).split(batch_size):
            loss = -prior().log_prob(train[rows]).mean()
            # Not backward(): what the prior works through, such as an encoder, must not receive gradients.
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            nn.utils.clip_grad_norm_(parameters, 100.0)
            optimizer.step()
        schedule.step()
        value = _mean_log_prob(prior, valid)
        if not math.isfinite(value):
            raise TrainingError(f"log p(z) of the prior became {value}. Lower the learning rate ({learning_rate:g}).")
        if value > best:
            best, best_state = value, copy.deepcopy(prior.state_dict())
    optimizer.zero_grad()
    prior.load_state_dict(best_state)
    prior.eval()


def _mean_log_prob(prior: nn.Module, z: Tensor) -> float:
    with engine.evaluating(prior):
        return float(prior().log_prob(z).mean())
