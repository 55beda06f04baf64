"""An objective on rows of which some cells are hidden: for models that will meet holes."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.distributions.base import hooks
from vaekit.errors import ConfigError
from vaekit.objectives.base import Loss, Objective
from vaekit.objectives.importance import IWAE
from vaekit.shapes import check_count


class HideCells(Objective):
    r"""Another objective, on rows of which some elements are hidden.

    In a share of the rows of each batch, each cell becomes a hole with a probability u of its own row, uniform on
    [`least`, `most`]: neither q(z|x) nor p(x|z) sees it. The bound is then one on log p of what is left, as it is for
    rows that come with holes.

    The encoder learns to tell z from few columns, and the decoder to say of each column what the others let expect. Use
    it for tables in whose rows cells are missing or will be filled in; it also keeps small tables from being learned by
    heart. With `leading` a cell is a whole part of an event: `leading=1` hides whole glyphs of a group of glyphs
    (L, H, W), and `least=0.8` leaves few of them, as for a style that few examples tell. Terms while training are those
    of the rows with their holes; validation hides nothing. Where the likelihood does not leave out what was not
    observed (missing="observed-only"), or the encoder bears no NaN, nothing can be hidden, and nothing is.

    References:
        Mattei & Frellsen, "MIWAE: deep generative modelling and imputation of incomplete data sets", 2019,
        https://arxiv.org/abs/1812.02633 (the bound).
        Collier, Nazabal & Williams, "VAEs in the presence of missing data", 2020, https://arxiv.org/abs/2006.05301
        (encoders that see masks).

    Args:
        objective: what is minimised; None is `IWAE`.
        rows: share of the rows in which cells are hidden.
        most: upper end of the probabilities u.
        least: their lower end.
        leading: how many leading dimensions of an event number its cells, the others lying within a cell; None: each
            element is one.

    Raises:
        ConfigError: if `rows`, `most` or `least` is no probability, `least` lies above `most`, or `leading` is below 1.

    Example:
        >>> HideCells(rows=0.5).objective
        IWAE(num_samples=5)
    """

    def __init__(
        self,
        objective: Objective | None = None,
        rows: float = 0.7,
        most: float = 0.5,
        least: float = 0.0,
        leading: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"rows": rows, "most": most, "least": least}.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} is a probability, from 0 to 1; got {value}")
        if least > most:
            raise ConfigError(f"least is at most `most`; got least={least} and most={most}")
        if leading is not None:
            check_count(leading, "leading")
        self.least, self.leading = least, leading
        self.objective, self.rows, self.most = IWAE() if objective is None else objective, rows, most
        self.selects, self.log_densities = self.objective.selects, self.objective.log_densities
        self.requires, self.num_samples = self.objective.requires, self.objective.num_samples
        self.needs_whole_batch = self.objective.needs_whole_batch
        self.adversary_learning_rate = self.objective.adversary_learning_rate
        self._hides: bool | None = None  # whether the model takes holes, once that is known

    def build(self, model: LatentVariableModel) -> None:
        """Find out whether the model takes holes, and make the parameters of the objective."""
        self._hides = _takes_holes(model)
        self.objective.build(model)

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The objective on x of shape (B, *X) with holes."""
        loss: Loss = self.objective(model, self._seen(model, x), weight)
        return loss

    def _seen(self, model: LatentVariableModel, x: Tensor) -> Tensor:
        """What the objective gets to see; without `build`, the first model settles whether anything can be hidden."""
        if self._hides is None:
            self._hides = _takes_holes(model)
        return self.hidden(x) if self._hides else x

    def hidden(self, x: Tensor) -> Tensor:
        """x, shape (B, *X), with further holes (NaN)."""
        shape = (len(x), *[1] * (x.ndim - 1))
        cells = x.shape if self.leading is None else (*x.shape[: 1 + self.leading], *shape[1 + self.leading :])
        share = self.least + (self.most - self.least) * torch.rand(shape, dtype=x.dtype, device=x.device)
        share = share * (torch.rand(shape, dtype=x.dtype, device=x.device) < self.rows)
        return x.masked_fill(torch.rand(cells, dtype=x.dtype, device=x.device) < share, torch.nan)

    def prepare(self, num_data: float) -> None:
        """Called once before training."""
        super().prepare(num_data)
        self.objective.prepare(num_data)

    def advance(self) -> None:
        """Called after each update of the parameters."""
        super().advance()
        self.objective.advance()

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """Those of the objective, on the rows as they are."""
        return self.objective.validation_terms(model, x)

    def adversary_parameters(self) -> Iterable[nn.Parameter]:
        """Those of the objective."""
        return self.objective.adversary_parameters()

    def adversary(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """That of the objective, on rows with holes."""
        return self.objective.adversary(model, self._seen(model, x), weight)


@torch.no_grad()
def _takes_holes(model: LatentVariableModel) -> bool:
    """Whether the likelihood leaves out elements that were not observed, and q(z|x) bears them."""
    with engine.evaluating(model):
        likelihood = model.likelihood(model.prior().sample(torch.Size((2,))))
        if hooks(likelihood).missing != "observed-only":
            return False
        try:
            z = model.posterior(torch.full_like(likelihood.sample(), torch.nan)).sample()
        except (ValueError, RuntimeError):  # of a distribution or a network that refuses NaN
            return False
        return bool(z.isfinite().all())
