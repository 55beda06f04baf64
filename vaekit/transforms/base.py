"""What a transform is, and how transforms follow one another."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.printing import Printed
from vaekit.traits import TransformTraits, told, told_of


def as_floating(x: Tensor) -> Tensor:
    """Floats keep their dtype; small integers (8-bit images) become torch's default float, wide ones float64."""
    if x.is_floating_point():
        return x
    return x.to(torch.get_default_dtype() if x.element_size() <= 2 else torch.float64)


def num_observed(x: Tensor, y: Tensor) -> Tensor:
    """How many elements of each row are not NaN, in y as in the x that it came from: shape (N,), in the dtype of y."""
    if not x.is_floating_point():  # integers are all there, and need no look at each
        return y.new_full((y.shape[0],), math.prod(y.shape[1:]))
    return (~torch.isnan(y)).flatten(1).sum(1).to(y.dtype)


class Transform(Printed, ABC):
    r"""A map y = f(x) from data to model space, elementwise on the event, with its log|det df/dx|.

    For a density, \( \log p(x) = \log p(y) + \log|\det \partial f / \partial x| \). Transforms that are no bijection
    say so: one that `dequantizes` turns a density of y into a lower bound on a mass of x; one that `discretizes`
    forgets x, so that the result is the mass of y. One that `is_fixed` draws nothing and has nothing to learn while a
    model trains: rows may go through it once, before the first step. One that `is_affine` moves and stretches each
    element, so that the mean of x is the image of the mean of y.

    A random transform that `takes_noise` has `from_noise`: its map at noise that is handed in. Evaluation hands in
    noise that is a function of the row (`transforms.noise.content_noise`), so that a row has one place in model space
    whatever else is drawn. Of a random transform without this, each row is drawn alone, under a seed that is a function
    of the row, which takes longer. `noise_name` is what the transform draws, in words.
    """

    dequantizes = False
    discretizes = False
    is_affine = False
    is_fixed = False
    takes_noise = False
    noise_name = "noise of the transform"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A map of its own: whatever the class that it derives from says does not hold for it.
        if "forward" in vars(cls):
            for name in {"is_affine", "is_fixed"} - set(vars(cls)):
                setattr(cls, name, False)
        if {"forward", "with_log_det"} & set(vars(cls)) and "from_noise" not in vars(cls):
            cls.takes_noise = False

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Data x to model space y, both of shape (N, *X). A random transform draws from torch's stream."""

    def from_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        """`forward` with given noise in the place of that from torch's stream; of transforms that take noise.

        Args:
            x: data of shape (N, *X).
            noise: uniform on [0, 1), independent, of the shape of x, in its dtype where that is a floating one.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no noise")

    def check(self, x: Tensor) -> None:
        """Raise a `SupportError` if x, shape (N, *X), holds values that the transform is not made for.

        Called once at the edge, not at every step.
        """

    @abstractmethod
    def inverse(self, y: Tensor) -> Tensor:
        """Model space y to data x, both of shape (..., *X)."""

    @abstractmethod
    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log|det dy/dx| summed over the event, shape (N,), in nats."""

    def with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(y, log|det dy/dx|) in one pass: shapes (N, *X) and (N,)."""
        y = self(x)
        return y, self.log_abs_det_jacobian(x, y)

    def fit(self, x: Tensor) -> "Transform":
        """Learn constants from the training data x of shape (N, *X); returns itself. Most transforms have none."""
        return self


class _Foreign(Transform):
    """A transform of someone else's, with our defaults for what it does not say.

    Args:
        transform: a call, `inverse`, and `with_log_det` or `log_abs_det_jacobian`, as those of `Transform`.
    """

    def __init__(self, transform: Any) -> None:
        super().__init__()
        self.own = transform
        known = told(TransformTraits, transform)
        self.dequantizes, self.discretizes = bool(known.dequantizes), bool(known.discretizes)
        self.is_fixed, self.takes_noise = bool(known.is_fixed), bool(known.takes_noise)
        self.noise_name = str(known.noise_name)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.own(x)
        return result

    def from_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        result: Tensor = self.own.from_noise(x, noise)
        return result

    def inverse(self, y: Tensor) -> Tensor:
        result: Tensor = self.own.inverse(y)
        return result

    def with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = (told_of(TransformTraits, self.own, "with_log_det") or super().with_log_det)(x)
        return result

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        result: Tensor = self.own.log_abs_det_jacobian(x, y)
        return result

    def check(self, x: Tensor) -> None:
        check = told(TransformTraits, self.own).check
        if check is not None:
            check(x)


def as_transform(transform: Any) -> Transform | None:
    """Any transform with the whole interface of `Transform`; None stays None."""
    return transform if transform is None or isinstance(transform, Transform) else _Foreign(transform)


def is_foreign(transform: Transform) -> bool:
    """Whether `as_transform` made it of a transform of someone else's."""
    return isinstance(transform, _Foreign)


class Compose(Transform):
    """Transforms one after the other; the first one sees the data.

    Args:
        transforms: any number of transforms.

    Example:
        >>> import torch
        >>> from vaekit.transforms import Compose, Logit, Scale
        >>> transform = Compose([Scale(0, 16), Logit(0.05)])
        >>> x = torch.tensor([[0.0, 8.0, 16.0]])
        >>> bool(torch.allclose(transform.inverse(transform(x)), x, atol=1e-4))
        True
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)

    @property
    def _chain(self) -> list[Transform]:
        return list(self.transforms)  # type: ignore[arg-type]

    @property
    def dequantizes(self) -> bool:  # type: ignore[override]
        """Whether any part does."""
        return any(t.dequantizes for t in self._chain)

    @property
    def discretizes(self) -> bool:  # type: ignore[override]
        """Whether any part does."""
        return any(t.discretizes for t in self._chain)

    @property
    def is_affine(self) -> bool:  # type: ignore[override]
        """Whether all parts are."""
        return all(t.is_affine for t in self._chain)

    @property
    def is_fixed(self) -> bool:  # type: ignore[override]
        """Whether all parts are."""
        return all(t.is_fixed for t in self._chain)

    def forward(self, x: Tensor) -> Tensor:
        """Every transform in turn."""
        for transform in self._chain:
            x = transform(x)
        return x

    def check(self, x: Tensor) -> None:
        """Check what each part gets to see."""
        for transform in self._chain:
            transform.check(x)
            x = transform(x)

    def inverse(self, y: Tensor) -> Tensor:
        """Every inverse in reverse order."""
        for transform in reversed(self._chain):
            y = transform.inverse(y)
        return y

    def with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The log-determinants add up; what comes before a part that discretizes does not count."""
        return through(self._chain, x, lambda transform, x: transform.with_log_det(x))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Recomputed from x: the intermediate values are not in y. Exact only where no part is random."""
        return self.with_log_det(x)[1]

    def fit(self, x: Tensor) -> "Compose":
        """Fit each part to what the parts before it return."""
        for transform in self._chain:
            x = transform.fit(x)(x)
        return self


def through(
    chain: Sequence[Transform], x: Tensor, step: Callable[[Transform, Tensor], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Rows on their way through a chain: y of shape (N, *X), and log|det| of all that counts, shape (N,).

    Args:
        chain: the transforms in their order.
        x: data of shape (N, *X).
        step: of a transform and what it gets to see, y and log|det|.
    """
    total = torch.zeros(x.shape[0], device=x.device)
    for transform in chain:
        x, log_det = step(transform, x)
        total = log_det if transform.discretizes else total + log_det
    return x, total


def steps_of(transform: Transform | None) -> list[Transform]:
    """The transforms that data pass through one after the other, chains within chains taken apart; none for None."""
    if transform is None:
        return []
    if type(transform) is not Compose:  # a class that derives from it may have a map of its own
        return [transform]
    return [step for part in transform._chain for step in steps_of(part)]
