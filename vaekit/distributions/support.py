"""Supports in words, and the check at the edge that data lie in one."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, TransformedDistribution, constraints

from vaekit.distributions.base import hooks
from vaekit.distributions.product import Product
from vaekit.errors import SupportError


class _OpenUnitInterval(constraints.interval):
    """0 < x < 1."""

    def __init__(self) -> None:
        super().__init__(0.0, 1.0)  # type: ignore[no-untyped-call]

    def check(self, value: Tensor) -> Tensor:
        """Whether each element lies strictly inside."""
        return (value > 0) & (value < 1)


class Support(constraints.Constraint):
    """A set of vaekit's own, with words for messages and a way back for points beside it."""

    @property
    def words(self) -> str:
        """What messages call the set."""
        return str(self)

    def nearest(self, value: Tensor) -> Tensor:
        """The point of the set that a mean of its points stands for; the mean itself where the set is convex."""
        return value


class _UnitSphere(Support):
    """|z| = 1, up to the rounding of a vector's entries."""

    event_dim = 1
    words = "the unit sphere"

    def check(self, value: Tensor) -> Tensor:
        """Whether each vector lies on the sphere."""
        tolerance = 10 * torch.finfo(value.dtype).eps
        result: Tensor = (torch.linalg.vector_norm(value, dim=-1) - 1).abs() < tolerance
        return result

    def nearest(self, value: Tensor) -> Tensor:
        """The point of the sphere in the direction of each vector."""
        return torch.nn.functional.normalize(value, dim=-1)


class PoincareBall(Support):
    """c |z|^2 < 1.

    Args:
        curvature: c > 0.
    """

    event_dim = 1

    def __init__(self, curvature: float) -> None:
        self.curvature = curvature

    @property
    def words(self) -> str:
        """What messages say, which tells balls of two curvatures apart."""
        return f"the Poincare ball of curvature -{self.curvature:g}"

    def check(self, value: Tensor) -> Tensor:
        """Whether each vector lies inside."""
        return self.curvature * value.double().square().sum(-1) < 1


class Levels(Support):
    """Whole numbers from 0, as many as each column has levels.

    Args:
        sizes: the number of levels of each of D columns.
    """

    is_discrete = True

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)

    @property
    def words(self) -> str:
        """What messages call the set."""
        return f"the integers 0..{self.sizes[0] - 1}" if len(set(self.sizes)) == 1 else "the numbers of its levels"

    def check(self, value: Tensor) -> Tensor:
        """Whether each element is the number of a level, shape (..., D)."""
        return (value % 1 == 0) & (value >= 0) & (value < value.new_tensor(self.sizes))


class Columnwise(Support):
    """Rows whose columns lie in sets of their own.

    Args:
        parts: distributions of groups of columns.
        places: the columns of each.
    """

    words = "the sets of its columns"

    def __init__(self, parts: Sequence[Distribution], places: Sequence[Sequence[int]]) -> None:
        self.parts, self.places = list(parts), [list(columns) for columns in places]

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        """Whether each column is."""
        return all(element_support(part).is_discrete for part in self.parts)

    @property
    def is_fixed(self) -> bool:
        """Whether each column's set is the same for every z."""
        return all(is_fixed(support_of(part)) for part in self.parts)

    def check(self, value: Tensor) -> Tensor:
        """Whether each element lies in the set of its column, shape (..., D)."""
        inside = torch.ones_like(value, dtype=torch.bool)
        for part, columns in zip(self.parts, self.places, strict=True):
            inside[..., columns] = element_support(part).check(value[..., columns])
        return inside


open_unit_interval = _OpenUnitInterval()
unit_sphere = _UnitSphere()

_HINTS = {
    "{0, 1}": "Binarise the data (vaekit.transforms.Binarize) or use ContinuousBernoulli. In settings: "
    "transform=binarize, or likelihood=continuous-bernoulli.",
    "[0, 1]": "Scale the data (vaekit.transforms.Scale) or use a likelihood of real numbers, such as Normal.",
    "(0, 1)": "Where 0 or 1 occur, shrink the data towards 1/2 or use ContinuousBernoulli.",
    "the non-negative integers": "Counts need no transform; for other data use a likelihood of real numbers: Normal.",
    "the positive numbers": "Use a likelihood of real numbers, such as Normal, or one of counts where zeros occur.",
    "the real numbers": "Remove or fill such values first.",
}


def support_of(distribution: Distribution) -> constraints.Constraint:
    """The support of a distribution.

    Raises:
        NotImplementedError: if it does not say.
    """
    support = distribution.support
    if support is None:
        raise NotImplementedError(f"{type(distribution).__name__} does not say where its values lie")
    return support


def element_support(distribution: Distribution) -> constraints.Constraint:
    """The support of one element of `distribution`: that of a product without its event dimensions."""
    support = support_of(distribution)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def has_levels(distribution: Distribution) -> bool:
    """Whether the values are the numbers of levels, of which a mean says little."""
    support = element_support(distribution)
    return support is constraints.boolean or isinstance(support, constraints.integer_interval | Levels)


def describe_support(distribution: Distribution) -> str:
    """The support of one element of `distribution`, in words such as "{0, 1}" or "the integers 0..255"."""
    return _in_words(element_support(distribution))


def _in_words(support: constraints.Constraint) -> str:
    if support is constraints.boolean:
        return "{0, 1}"
    if not is_fixed(support):
        kind = "integers" if support.is_discrete else "numbers"
        return f"{kind} between bounds that depend on z"
    if isinstance(support, constraints.integer_interval):
        return f"the integers {int(support.lower_bound)}..{int(support.upper_bound)}"
    if support is constraints.nonnegative_integer:
        return "the non-negative integers"
    if support is constraints.positive:
        return "the positive numbers"
    if support is open_unit_interval:
        return "(0, 1)"
    if isinstance(support, constraints.interval):
        return f"[{float(support.lower_bound):g}, {float(support.upper_bound):g}]"
    if support in (constraints.real, constraints.real_vector):
        return "the real numbers"
    if support is constraints.one_hot:
        return "the one-hot vectors"
    if support is constraints.simplex:
        return "the simplex"
    return support.words if isinstance(support, Support) else str(support)


def centre(distribution: Distribution) -> Tensor:
    """One point that stands for the distribution, shape (*batch, *event): its mean, where the support has means.

    On a sphere or a ball the mean of points is no such point, and a relaxed distribution knows no mean; those have a
    `centre` of their own.
    """
    own = hooks(elements(distribution)).centre
    return distribution.mean if own is None else own


def elements(distribution: Distribution) -> Distribution:
    """The elementwise distribution behind a product, ours or torch's; any other one itself."""
    if isinstance(distribution, Independent):
        result: Distribution = distribution.base_dist
        return result
    return distribution.base if isinstance(distribution, Product) else distribution


def num_values(distribution: Distribution) -> int:
    """How many numbers a distribution holds, or makes on its way to log p: what a pass costs in memory."""
    base = elements(distribution)
    return max(
        [
            distribution.event_shape.numel(),
            hooks(base).num_values,
            *(value.numel() for value in vars(base).values() if isinstance(value, Tensor)),
        ]
    )


def is_fixed(support: constraints.Constraint) -> bool:
    """Whether a set is the same for every z: a constraint that holds tensors has bounds that parameters may move."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if isinstance(support, Columnwise):
        return support.is_fixed
    parts = [value for value in vars(support).values() if not isinstance(value, str)]
    nested = [part for value in parts for part in (value if isinstance(value, list | tuple) else [value])]
    return all(
        is_fixed(part) if isinstance(part, constraints.Constraint) else not isinstance(part, Tensor) for part in nested
    )


def unchecked(distribution: Distribution) -> Distribution:
    """The distribution, which gives -inf where torch's own check would raise for a value outside bounds that z moves.

    A value that one z makes impossible is nothing to stop at; sets that are the same for every z keep their check.
    """
    parts = (distribution, elements(distribution))
    if any(part._validate_args for part in parts):
        try:
            moves = not is_fixed(support_of(distribution))
        except NotImplementedError:  # a distribution that does not say
            return distribution
        if moves:
            for part in parts:
                part._validate_args = False
    return distribution


def log_prob_at(distribution: Distribution, value: Tensor) -> Tensor:
    """log p(x) in nats of a distribution that is `unchecked`, -inf for what a transformed base cannot have become.

    torch tells neither the support of `TransformedDistribution` where a transform moves it (that of an affine one is
    said to be real), nor gives -inf outside: its base raises.
    """
    if hooks(distribution).makes_parts:
        return distribution.log_prob(value)
    distribution = unchecked(distribution)
    base = elements(distribution)
    if not isinstance(base, TransformedDistribution) or is_real(base.base_dist):
        return distribution.log_prob(value)
    origin, point = value, base.base_dist.mean.nan_to_num(nan=1.0, posinf=1.0)
    for step in reversed(base.transforms):
        origin = step.inv(origin)
    support = support_of(base.base_dist)
    inside = support.check(origin)
    if bool(inside.all()) or inside.shape != torch.broadcast_shapes(value.shape, base.batch_shape):
        return distribution.log_prob(value)
    for step in base.transforms:
        point = step(point)
    found = distribution.log_prob(torch.where(inside, value, point))
    lost = ~inside.flatten(found.ndim - inside.ndim).all(-1) if inside.ndim > found.ndim else ~inside
    return torch.where(lost, -torch.inf, found)


def bounds_of(support: constraints.Constraint) -> tuple[float, float] | None:
    """The ends of an interval of numbers or integers; None for any other set, and for one that moves with z."""
    if not is_fixed(support):
        return None
    if support is constraints.boolean:
        return 0.0, 1.0
    if isinstance(support, constraints.interval | constraints.integer_interval):
        low, high = (float(torch.as_tensor(end).max()) for end in (support.lower_bound, support.upper_bound))
        return low, high
    return None


def nearest(distribution: Distribution, value: Tensor) -> Tensor:
    """`value`, a mean of points of the support, moved back onto the support where that has no means: onto a sphere."""
    try:
        support = element_support(distribution)
    except NotImplementedError:  # a distribution that does not say
        return value
    return support.nearest(value) if isinstance(support, Support) else value


def is_real(distribution: Distribution) -> bool:
    """Whether its values are points of a real space; False where it does not say."""
    try:
        return element_support(distribution) in (constraints.real, constraints.real_vector)
    except NotImplementedError:
        return False


def known_support(distribution: Distribution) -> str | None:
    """`describe_support` where it has words of its own, else None, also for bounds that parameters may move."""
    try:
        support = element_support(distribution)
    except NotImplementedError:
        return None
    words = _in_words(support)
    return None if not is_fixed(support) or words == str(support) else "[0, 1]" if words == "(0, 1)" else words


def check_support(distribution: Distribution, value: Tensor, *, where: str = "x") -> None:
    """Raise unless every element of `value` lies in the support of `distribution`.

    A support whose bounds are tensors is that of one z; what lies outside gets -inf from the likelihood itself. Of it
    no more is asked than finite numbers, and integers where it holds integers.

    Args:
        distribution: any distribution whose event shape matches the last dimensions of `value`.
        value: data, shape (N, *event). NaN passes where the distribution counts observed elements only.
        where: what to call the value in the message.

    Raises:
        SupportError: naming the support, the range that came, and the way out.
    """
    support = element_support(distribution)
    if isinstance(support, Columnwise):
        for part, columns in zip(support.parts, support.places, strict=True):
            check_support(part, value[..., columns], where=f"{where}[:, {_listed(columns)}]")
        return
    missing_allowed = hooks(distribution).missing == "observed-only"
    finite_or_hole = torch.isfinite(value) | (
        torch.isnan(value) if missing_allowed else torch.zeros_like(value, dtype=torch.bool)
    )
    if is_fixed(support):
        inside = support.check(value)  # per element, or per event where the support is one of vectors
    else:
        inside = value % 1 == 0 if support.is_discrete else torch.ones_like(finite_or_hole)
    if missing_allowed and inside.shape == value.shape:
        inside = inside | torch.isnan(value)
    if bool(inside.all()) and bool(finite_or_hole.all()):
        return
    name = type(elements(distribution)).__name__
    expected = _in_words(support)
    finite = value[torch.isfinite(value)]
    came = f"values in [{finite.min():g}, {finite.max():g}]" if len(finite) else "no finite value"
    if len(finite) < value.numel():
        came += f" and {value.numel() - len(finite)} values that are NaN or infinite"
    elif "integers" in expected:
        came += f" that are not all {'integers in that range' if '..' in expected else 'non-negative integers'}"
    hint = _HINTS.get(expected, "Transform the data (vaekit.transforms) or choose another likelihood.")
    raise SupportError(f"{name} expects {where} in {expected}; got {came}. {hint}")


def _listed(columns: Sequence[int]) -> str:
    """Column numbers in words, the first five of them."""
    return f"[{', '.join(map(str, columns[:5]))}{', ...' if len(columns) > 5 else ''}]"
