r"""Rows far from what a model generates, and draws of z for them that do not rest on the encoder.

An encoder knows the rows that it was trained on. Far from them its q(z|x) is an extrapolation: a point that is off by
many of its own standard deviations, whose draws all agree with each other. Their weights look perfect, and log p(x) is
thousands of nats too low. The model itself says which rows these are (`Floors`): it would hardly ever draw such a z, or
such an x from p(x|z).

For such rows z is searched for (`searched`) from where the encoder points and from where the prior lies: the slope of
log p(x, z) at a few draws around a point is regressed on z, which gives a Newton step and the width of the posterior.
A Student t at the end of either search, and the prior, then count as one mixture of proposals; see
`evaluation.proposals`. The draws of a row depend on its seed alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from vaekit import engine
from vaekit.bounds import Draw, LatentVariableModel, log_likelihood_at
from vaekit.distributions import Columns, Product
from vaekit.distributions.support import is_real
from vaekit.errors import ConfigError
from vaekit.evaluation.proposals import BLOCK, DEGREES, Controlled, StudentT, curved, newton_step
from vaekit.evaluation.weights import FEWEST_DRAWS, Weights
from vaekit.models.checks import code_of
from vaekit.models.draws import chunk_size
from vaekit.models.rows import Batch, slices
from vaekit.models.view import View

_DEVIATIONS = 10.0  # standard deviations of log p(z) or log p(x|z) below their means: what no draw of the model reaches
_ORDINARY = 256  # draws that say what is ordinary
_STEPS, _GAIN = 12, 0.05  # at most so many, until none gains more, in nats
_LENGTHS = (0.0, 1 / 64, 1 / 8, 1 / 2, 1.0, 2.0, 8.0)  # of a Newton step, among which the best is taken
_MOST_DIMS = 16  # of a full curvature: above, that along the axes alone
_PATTERN = (0, 1, 0, 1, 2)  # which proposal the draws come from in turn: t, t, prior
_OF_NORMAL = 0.016  # relative variance, for each dimension, of the weights of a normal posterior under its Student t
_ENOUGH = 60  # draws, beyond which they show that variance by themselves
_RADII = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)  # multiples of draws of the prior, among which a search starts
_DIRECTIONS = 32
_WORTHLESS = 10.0  # nats by which the mass at one end of a search exceeds that at the other, whose draws then are lost


@dataclass(frozen=True)
class Floors:
    """The least log p(z) and log p(x|z), in nats, at which z and x still look like draws of the model.

    Attributes:
        log_prior: ten standard deviations below the mean of log p(z) over draws of the prior.
        log_likelihood: likewise of log p(x|z) over draws of the model; minus infinity where drawing x costs a pass of
            the network for each of its elements.
    """

    log_prior: float
    log_likelihood: float

    @classmethod
    def of(cls, view: View) -> "Floors":
        """From 256 draws of z, and as many of x at the z of the view's dry run: the same ones each time."""
        p, draws = view.at_prior, Size((_ORDINARY,))
        with engine.evaluating(view.model), engine.seeded(0):
            prior = view.model.prior()
            log_prior = prior.log_prob(prior.sample(draws))
            is_cheap = isinstance(p, Product | Columns | Independent | Normal | MultivariateNormal)
            return cls(_floor(log_prior), _floor(p.log_prob(p.sample(draws))) if is_cheap else -math.inf)

    def passed(self, log_prior: Tensor, log_likelihood: Tensor) -> Tensor:
        """Which rows lie below, shape (N,), bool, from means over their draws.

        A log p(z) that is NaN counts as below: the encoder gave no number. So does not a log p(x|z) at an ordinary z.
        """
        return ~(log_prior >= self.log_prior) | (log_likelihood < self.log_likelihood)


def _floor(values: Tensor) -> float:
    values = values.double().flatten()
    floor = float(values.mean() - _DEVIATIONS * values.std() - 1)
    return -math.inf if math.isnan(floor) else floor


class Means:
    """Means over the draws of each row, which say where it lies: shape (N,), float64, nats.

    Args:
        num_rows: N.

    Attributes:
        log_prior: of log p(z).
        log_likelihood: of log p(x|z).
        log_weight: of log w.
    """

    def __init__(self, num_rows: int) -> None:
        self.log_prior, self.log_likelihood, self.log_weight = torch.zeros(3, num_rows, dtype=torch.float64).unbind()
        self._count = torch.zeros(num_rows, dtype=torch.float64)

    def parts(self) -> tuple[Tensor, ...]:
        """Everything that is kept of each row, shape (N,) each."""
        return self.log_prior, self.log_likelihood, self.log_weight, self._count

    def add(self, rows: slice, draws: Draw) -> None:
        """Add draws of some rows."""
        self._count[rows] += len(draws.log_prior)
        share = len(draws.log_prior) / self._count[rows]
        pairs = (self.log_prior, draws.log_prior), (self.log_likelihood, draws.log_likelihood)
        for mean, values in (*pairs, (self.log_weight, draws.log_weights)):
            mean[rows] = torch.lerp(mean[rows], values.mean(0, dtype=torch.float64).cpu(), share)


class Joint:
    """log p(y, z) of some rows as a function of z, in passes of bounded memory.

    Args:
        view: the model and how much one z costs.
        y: rows in model space, shape (N, *X).
    """

    def __init__(self, view: View, y: Tensor) -> None:
        with torch.inference_mode(False):  # slopes are recorded, whatever mode the caller is in
            self.model, self.y, self.prior = view.model, y.clone(), view.model.prior()
        self.num_samples = max(1, chunk_size(view.num_values) // len(y))

    def __call__(self, z: Tensor) -> Tensor:
        """Nats, float64, shape (K, N), for z of shape (K, N, *Z)."""
        return torch.cat([self._of(z[k]).double() for k in slices(len(z), self.num_samples)])

    def _of(self, z: Tensor) -> Tensor:
        log_prior: Tensor = self.prior.log_prob(z)
        return log_likelihood_at(self.model, z, self.y) + log_prior

    def or_nothing(self, z: Tensor) -> Tensor:
        """The same, but minus infinity where there is no number: far out a decoder may overflow."""
        return self(z).nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)

    def slopes(self, z: Tensor) -> Tensor:
        """The gradient in z, float64, shape (K, N, *Z); 0 for a model that records none."""
        found = []
        for k in slices(len(z), self.num_samples):
            with torch.inference_mode(False), torch.enable_grad():
                leaf = z[k].clone().requires_grad_()
                total = self._of(leaf).sum()
                slope = torch.autograd.grad(total, leaf, allow_unused=True)[0] if total.requires_grad else None
                found.append(torch.zeros_like(leaf) if slope is None else slope)
        return torch.cat(found).double()


def searched(joint: Joint, start: Tensor, scale: Tensor) -> StudentT:
    """The proposal at the end of a search that begins at `start`, one for each row.

    Args:
        joint: log p(y, z).
        start: shape (N, *Z).
        scale: the width in which slopes are looked at first, shape (N, D).

    Returns:
        Around the best point of the search, with the curvature there.
    """
    shape, centre = start.shape[1:], start.flatten(1).double()
    num_dims, along_axes = centre.shape[-1], centre.shape[-1] > _MOST_DIMS
    half = 8 if along_axes else num_dims + 3
    # The same points for each row, in pairs around the centre: a search has no noise of its own.
    noise = torch.randn(half, 1, num_dims, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = torch.cat([noise, -noise]).to(centre.device)
    identity = None if along_axes else torch.eye(num_dims).to(centre).expand(len(centre), -1, -1)
    around = StudentT(centre, scale, identity, torch.ones_like(centre))
    best, moves = torch.full_like(centre[:, 0], -math.inf), torch.ones_like(centre[:, 0], dtype=torch.bool)
    for _ in range(_STEPS):
        z = around.loc + around.scale * around.turned(noise / around.curvature.sqrt())
        slope = joint.slopes(z.to(start.dtype).reshape(-1, *start.shape)).flatten(2)
        # Widths along the axes, from which the curvature is read off anew.
        width = _widths(around)
        axes, curvature, at_centre = curved(
            z.transpose(0, 1), slope.transpose(0, 1), around.loc, width, along_axes=along_axes
        )
        step = width * newton_step(StudentT(around.loc, width, axes, curvature), at_centre)
        options = (around.loc + step * step.new_tensor(_LENGTHS).reshape(-1, 1, 1)).to(start.dtype)
        found, place = joint.or_nothing(options.reshape(-1, *start.shape)).max(0)
        chosen = options.gather(0, place.reshape(1, -1, 1).expand(1, -1, num_dims))[0]
        around = _where(moves, StudentT(chosen.double(), width, axes, curvature), around)
        # Each row stops by itself: it has the same search alone and among others.
        moves, best = moves & (found > best + _GAIN), found
        if not bool(moves.any()):
            break
    return StudentT(around.loc.to(start.dtype).reshape(-1, *shape), around.scale, around.axes, around.curvature)


def _log_mass(joint: Joint, proposal: StudentT) -> Tensor:
    """What Laplace's method makes of log p(y) around the point of a proposal, shape (N,), up to a constant."""
    log_volume = (proposal.scale.log() - 0.5 * proposal.curvature.log()).sum(-1)
    return joint.or_nothing(proposal.loc.unsqueeze(0))[0] + log_volume


def _where(rows: Tensor, first: StudentT, second: StudentT) -> StudentT:
    """The one for some rows, the other for the rest."""

    def chosen(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    axes = None if first.axes is None or second.axes is None else chosen(first.axes, second.axes)
    scale, curvature = chosen(first.scale, second.scale), chosen(first.curvature, second.curvature)
    return StudentT(chosen(first.loc, second.loc), scale, axes, curvature)


def _widths(around: StudentT) -> Tensor:
    """Standard deviation of each dimension of the normal distribution at the centre of `around`, shape (N, D)."""
    if around.axes is None:
        return around.scale / around.curvature.sqrt()
    return around.scale * (around.axes.square() / around.curvature.unsqueeze(-2)).sum(-1).sqrt()


@dataclass(frozen=True)
class Redrawn:
    """What draws of their own say of far rows.

    Attributes:
        weights: the importance weights.
        log_weight: mean of log w under the better of the two t distributions, shape (N,): the ELBO of those.
        offset: what is to be added to the log of the mean weight, shape (N,): log|det| of the transform, and what the
            prior's share of the draws makes of the mean as a control variate.
        is_number: where log p(x, z) is a number at ordinary z, shape (N,), bool.
        z: the draws, shape (K, N, *Z); empty unless they were asked for.
        log_weights: log w of each, shape (K, N), likewise.
    """

    weights: Weights
    log_weight: Tensor
    offset: Tensor
    is_number: Tensor
    z: Tensor
    log_weights: Tensor


def is_searchable(model: LatentVariableModel) -> bool:
    """Whether z lives in a real space, where slopes lead to it."""
    with torch.no_grad():
        prior = model.prior()
    return is_real(prior) and not prior.batch_shape


def redrawn(view: View, batch: Batch, num_samples: int, seeds: Sequence[int], keep_z: bool = False) -> Redrawn:
    """Search z for each of some far rows, and draw from what was found; the model is to be in eval mode.

    Args:
        view: the model.
        batch: the rows.
        num_samples: K.
        seeds: a seed for each row.
        keep_z: hand the draws over, too.
    """
    joint = Joint(view, batch.x)
    with engine.seeded(0):
        centre = _pointed(view.model.posterior(batch.x))
        ordinary = joint.prior.sample(Size((_ORDINARY,)))
    ordinary = ordinary.to(batch.x.device)
    first, second = (searched(joint, start, _reach(start, ordinary)) for start in _starts(joint, centre, ordinary))
    gain = _log_mass(joint, second) - _log_mass(joint, first)
    proposals = _where(gain > _WORTHLESS, second, first), _where(gain < -_WORTHLESS, first, second)
    is_number = ~joint(_for_each(ordinary[:_DIRECTIONS], len(batch))).isnan().any(0).cpu()
    weights, elbos = Weights(len(batch), num_samples), torch.zeros(2, len(batch), dtype=torch.float64)
    controlled = Controlled(len(batch))
    kinds = torch.tensor([_PATTERN[k % len(_PATTERN)] for k in range(num_samples)])
    shares = (kinds.bincount(minlength=3).double() / num_samples).log()
    noise, kept = _Noise(joint.prior, seeds, batch.x), [(batch.x.new_empty(0), batch.x.new_empty(0))]
    for part in slices(num_samples, BLOCK):
        z, kind = noise.draws(proposals, kinds[part]), kinds[part]
        value = joint.or_nothing(z)
        densities = torch.stack([p.log_prob(z).double() for p in (*proposals, joint.prior)])
        mixture = torch.logsumexp(densities + shares.to(value).reshape(3, 1, 1), 0)
        log_weights = value - mixture
        weights.add(slice(0, len(batch)), log_weights)
        controlled.add(log_weights, densities[2] - mixture)
        kept += [(z, log_weights)] if keep_z else []
        for i in range(2):
            elbos[i] += (value - densities[i])[kind == i].sum(0).cpu()
    means = elbos / kinds.bincount(minlength=3)[:2].clamp(min=1).unsqueeze(1)
    draws = (torch.cat(part) for part in zip(*(kept[1:] or kept), strict=True))
    shift = torch.zeros_like(means[0])
    if num_samples >= FEWEST_DRAWS:
        shift, variance = controlled.found()
        # Few draws miss the tails of t, where the weights of a normal posterior are smaller.
        least = _OF_NORMAL * proposals[0].scale.shape[-1] / num_samples * min(1.0, _ENOUGH / num_samples)
        weights.known, shift = variance + least, shift.nan_to_num(nan=0.0)
    offset = batch.log_det.cpu().double() + shift
    return Redrawn(weights, means.nan_to_num(nan=-math.inf).amax(0), offset, is_number, *draws)


def _pointed(q: Distribution) -> Tensor:
    """Where the encoder points, shape (N, *Z); NaN where it does not say."""
    try:
        return code_of(q)
    except ConfigError:
        return torch.full_like(q.sample(), math.nan)


def _for_each(z: Tensor, num_rows: int) -> Tensor:
    """The same draws for each row: (K, *Z) to (K, N, *Z)."""
    return z.unsqueeze(1).expand(-1, num_rows, *z.shape[1:])


def _starts(joint: Joint, centre: Tensor, ordinary: Tensor) -> tuple[Tensor, Tensor]:
    """Where searches begin: the encoder's point, and the best of draws of the prior at growing distances."""
    centre = torch.where(centre.isfinite(), centre, ordinary.mean(0))
    middle, some = ordinary.mean(0), ordinary[:_DIRECTIONS]
    candidates = _for_each(torch.cat([middle + radius * (some - middle) for radius in _RADII]), len(centre))
    place = joint.or_nothing(candidates).argmax(0).reshape(1, -1, *[1] * (centre.ndim - 1))
    return centre, candidates.gather(0, place.expand(1, *centre.shape))[0]


def _reach(start: Tensor, ordinary: Tensor) -> Tensor:
    """The width in which slopes are looked at first, shape (N, D): that of the prior, or an eighth of the way there."""
    width = ordinary.flatten(1).double().std(0)
    away = (start - ordinary.mean(0)).flatten(1).double().square().mean(1, keepdim=True).sqrt()
    return torch.maximum(width, away / 8)


class _Noise:
    """Draws of the proposals, each row's from a stream of its own.

    Args:
        prior: p(z), the last of the proposals.
        seeds: a seed for each row.
        like: a tensor of the model's dtype and device.
    """

    def __init__(self, prior: Distribution, seeds: Sequence[int], like: Tensor) -> None:
        self.prior, self.device = prior, like.device
        self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draws(self, proposals: Sequence[StudentT], kinds: Tensor) -> Tensor:
        """One draw for each of the kinds, shape (K, N, *Z)."""
        size = proposals[0].scale.shape[-1] + DEGREES
        noise = torch.stack([torch.randn(len(kinds), size, generator=s, dtype=torch.float64) for s in self.streams], 1)
        noise = noise.to(self.device)
        found = torch.stack([p.from_noise(noise) for p in proposals])
        z = found[kinds.clamp(max=1), torch.arange(len(kinds))]
        if bool((kinds == 2).any()):
            z[kinds == 2] = self._of_prior(int((kinds == 2).sum()))
        return z

    def _of_prior(self, count: int) -> Tensor:
        drawn = []
        for stream in self.streams:
            with engine.seeded(engine.draw_seed(stream)):
                drawn.append(self.prior.sample(Size((count,))))
        return torch.stack(drawn, 1)
