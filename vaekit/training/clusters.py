"""The start of a model whose prior's components are to be clusters: an autoencoder, and a mixture of its codes."""

import dataclasses
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from vaekit import engine
from vaekit.models import VAE
from vaekit.models.view import View
from vaekit.objectives import ELBO
from vaekit.priors import NormalMixture, StandardNormal
from vaekit.progress import track
from vaekit.shapes import check_count
from vaekit.training.callbacks import Callback, Run
from vaekit.training.second_stage import fit_mixture
from vaekit.training.settings import START, TrainerSettings
from vaekit.training.step import Step

_SHARE, _FEWEST = 5, 300  # one epoch of the start for so many of training, and updates at least
_ROWS = 20_000  # to whose codes the mixture is fitted
_EM_STEPS = 200


class StartClusters(Callback):
    r"""Before the first epoch: an autoencoder is trained, and the mixture prior fitted to its codes.

    Encoder and decoder learn \( E_q[\log p(x|z)] - \beta KL(q(z|x), N(0, I)) \), whose small weight leaves codes in
    groups as data are and only bounds their size. A Gaussian mixture is then fitted to E[z|x] of the training rows by
    EM, the most likely one of several starts, and becomes the `NormalMixture` of the model, its variances wider by the
    mean of Var[z|x]. From random weights, components of a mixture prior hardly ever become clusters: the KL merges them
    before z says anything of x.

    Where training is resumed nothing happens, nor where the prior of the model is no `NormalMixture`. The rows of EM
    count alike, whatever their weights.

    References:
        Jiang et al., "Variational deep embedding: an unsupervised and generative approach to clustering", 2017,
        https://arxiv.org/abs/1611.05148, section 3.2, which has stacked layers of a denoising autoencoder instead.

    Args:
        max_epochs: passes over the rows for the autoencoder; None is a fifth of those of the trainer, and 300
            updates at least.
        beta: weight of the KL; 0 is an autoencoder with noise.
        num_starts: of EM.

    Raises:
        ConfigError: if a count is below 1.
        DataError: at the start of training, if the mixture has more components than a half of the rows.

    Example:
        >>> import torch, vaekit as vk
        >>> x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)) / 4
        >>> x[::2] += 3  # two clouds
        >>> with vk.engine.seeded(0):
        ...     model, objective = vk.presets.vade((4,), latent_dim=2, num_clusters=2, hidden=(8,), likelihood="normal")
        >>> trainer = vk.Trainer(max_epochs=50, learning_rate=1e-2, callbacks=[StartClusters()], progress=False)
        >>> _ = trainer.fit(model, objective, x)
        >>> found = vk.queries.clusters(model, x, generator=torch.Generator().manual_seed(0))
        >>> vk.evaluation.cluster_agreement([0, 1] * 20, found.cluster).value
        1.0
    """

    def __init__(self, max_epochs: int | None = None, beta: float = 0.1, num_starts: int = 5) -> None:
        if max_epochs is not None:
            check_count(max_epochs, "max_epochs")
        check_count(num_starts, "num_starts")
        self.max_epochs, self.beta, self.num_starts = max_epochs, beta, num_starts

    def on_fit_start(self, loop: Run) -> None:
        """Give the model its first weights, unless it has been trained already; an interrupt leaves it as it was."""
        model = loop.model
        if loop.step or not isinstance(model, VAE) or not isinstance(model.prior, NormalMixture):
            return
        before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        unit = StandardNormal(model.latent_shape).to(engine.model_device(model), engine.model_dtype(model))
        view = View.of(VAE(model.encoder, model.decoder, unit, model.transform), loop.train, where="train")
        self._train(loop, view)
        if loop.signal:
            model.load_state_dict(before)  # a run that is resumed begins anew
            return
        with engine.seeded(engine.block_seed(loop.settings.seed, START, 1)):
            some = view.some(_ROWS)
            codes = some.encode()
            noise = (some.encode(mean=False) - codes).square().mean(0)  # E[Var(z|x)]
            fit_mixture(model.prior, codes, _EM_STEPS, self.num_starts, noise)

    def _train(self, loop: Run, view: View) -> None:
        """The autoencoder, until a signal asks to end."""
        settings = loop.settings
        assert isinstance(settings, TrainerSettings)
        size = min(settings.batch_size, len(view))
        per_epoch = len(view) // size
        num_epochs = self.max_epochs or math.ceil(max(loop.max_epochs / _SHARE, _FEWEST / per_epoch))
        num_steps = num_epochs * per_epoch
        how = dataclasses.replace(settings, scheduler=None, em_steps=None)
        step = Step(how, view, ELBO(beta=self.beta), num_steps, size)
        noise = engine.Stream(engine.block_seed(settings.seed, START))
        batches = view.batches(_orders(view, size, settings.seed, num_epochs))
        view.model.train()
        for _ in track(range(num_steps), "starting clusters") if settings.progress else range(num_steps):
            with noise:
                step(next(batches))
            if loop.signal:
                break
        batches.close()


def _orders(view: View, size: int, seed: int, num_epochs: int) -> Iterator[Tensor]:
    """Which rows each batch has; each epoch has an order of its own, and leaves out what fills no batch."""
    for epoch in range(num_epochs):
        noise = torch.Generator().manual_seed(engine.block_seed(seed, START, 2, epoch))
        order = torch.randperm(len(view), generator=noise)[: len(view) // size * size]
        yield from (order.to(view.rows.device) if isinstance(view.rows, Tensor) else order).split(size)
