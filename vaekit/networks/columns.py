"""What stands in front of the encoder of a table: numbers, codes of levels and holes as one vector of real numbers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaekit.errors import ConfigError
from vaekit.raw import box_cox
from vaekit.traits import NetworkTraits, told

MOST_ONE_HOT = 50
"""Columns of more levels are embedded: a first layer has that many weights per level and unit."""


class ColumnsInput(nn.Module):
    r"""Feeds the columns of a row to a network: numbers as they are, levels one-hot or embedded, and what is missing.

    Use it where rows hold codes of levels, counts or holes (NaN). Codes are no quantities, and a hole is no number: the
    network sees a 0 in its place, and in a further input per column that may have holes whether it was observed.

    Args:
        network: takes events of shape (`width(...)`,).
        levels: for each column the number of its levels; 0 for numbers.
        logarithms: places of the columns of numbers from 0 on, such as counts, of which log(1 + x) is fed.
        holes: places of the columns that may have holes.
        powers: for each of the logarithms a power p of x + 1, whose \( (((x + 1) / c)^p - 1) / p \) is fed instead; 0
            is the logarithm. None is 0 for all.
        centres: for each of the logarithms c, about the mean of x + 1; None is 1 for all.

    Raises:
        ConfigError: if the network takes another number of inputs, a place is no column of numbers, or there are not as
            many powers or centres as logarithms.

    Example:
        >>> import torch
        >>> front = ColumnsInput(nn.Identity(), levels=(0, 3), holes=(0, 1))
        >>> front(torch.tensor([[0.5, 2.0], [torch.nan, torch.nan]]))
        tensor([[0.5000, 0.0000, 0.0000, 1.0000, 1.0000, 1.0000],
                [0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000]])
    """

    _numbers: Tensor
    _logarithms: Tensor
    _powers: Tensor
    _log_centres: Tensor
    _few: Tensor
    _starts: Tensor
    _holes: Tensor

    def __init__(
        self,
        network: nn.Module,
        levels: Sequence[int],
        logarithms: Sequence[int] = (),
        holes: Sequence[int] = (),
        powers: Sequence[float] | None = None,
        centres: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.levels = network, tuple(levels)
        self.logarithms, self.holes = tuple(logarithms), tuple(holes)
        numbers = [d for d, size in enumerate(self.levels) if size == 0]
        few = [d for d, size in enumerate(self.levels) if 0 < size <= MOST_ONE_HOT]
        if not set(self.logarithms) <= set(numbers) or not set(self.holes) <= set(range(len(self.levels))):
            raise ConfigError(f"logarithms and holes are places of columns; got {self.logarithms} and {self.holes}")
        self.powers, self.centres = (None if values is None else tuple(values) for values in (powers, centres))
        if any(values is not None and len(values) != len(self.logarithms) for values in (self.powers, self.centres)):
            raise ConfigError(
                f"one power and one centre for each of the logarithms {logarithms}; got {powers}, {centres}"
            )
        self._many = [d for d, size in enumerate(self.levels) if size > MOST_ONE_HOT]
        self.embeddings = nn.ModuleList(
            nn.Embedding(self.levels[d] + 1, _embedding_size(self.levels[d]), padding_idx=self.levels[d])
            for d in self._many
        )
        starts = [sum(self.levels[d] for d in few[:i]) for i in range(len(few))]
        self._num_codes = sum(self.levels[d] for d in few)
        places = {"_numbers": numbers, "_few": few, "_starts": starts, "_holes": self.holes}
        for name, values in places.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.long), persistent=False)
        is_logarithm = torch.tensor([d in self.logarithms for d in numbers], dtype=torch.bool)
        self.register_buffer("_logarithms", is_logarithm, persistent=False)
        self.register_buffer("_powers", self._of_numbers(numbers, self.powers, 0.0), persistent=False)
        log_centres = self._of_numbers(numbers, self.centres, 1.0).log()
        self.register_buffer("_log_centres", log_centres, persistent=False)
        known = told(NetworkTraits, network)
        if known.in_shape is not None and tuple(known.in_shape) != (self.width(levels, holes),):
            raise ConfigError(
                f"the network behind ColumnsInput takes events of shape ({self.width(levels, holes)},) here; got one "
                f"for {tuple(known.in_shape)}"
            )
        self.in_shape, self.out_shape, self.returns_features = (len(levels),), known.out_shape, known.returns_features
        self.context_dim = known.context_dim

    def _of_numbers(self, numbers: Sequence[int], values: Sequence[float] | None, other: float) -> Tensor:
        """What is said of the logarithms, for each column of numbers, float64."""
        said = {} if values is None else dict(zip(self.logarithms, values, strict=True))
        return torch.tensor([said.get(d, other) for d in numbers], dtype=torch.float64)

    @staticmethod
    def width(levels: Sequence[int], holes: Sequence[int] = ()) -> int:
        """How many numbers the network gets for such columns."""
        sizes = [1 if size == 0 else size if size <= MOST_ONE_HOT else _embedding_size(size) for size in levels]
        return sum(sizes) + len(holes)

    def places(self, column: int) -> tuple[range, int | None]:
        """Where the network finds a column: the places of its inputs, and the one that says whether it was observed.

        The inputs of a column of levels are one for each level, those of many levels the embedding; None stands for a
        column that has no holes.
        """
        sizes = dict.fromkeys(self._numbers.tolist(), 1) | {d: self.levels[d] for d in self._few.tolist()}
        sizes |= {d: _embedding_size(self.levels[d]) for d in self._many}
        order = list(sizes)
        first = sum(sizes[d] for d in order[: order.index(column)])
        mask = sum(sizes.values()) + self.holes.index(column) if column in self.holes else None
        return range(first, first + sizes[column]), mask

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """The network's output for rows of shape (B, D); a context is passed on."""
        result: Tensor = self.network(self.inputs(x), *context)
        return result

    def inputs(self, x: Tensor) -> Tensor:
        """What the network sees of rows of shape (B, D): shape (B, `width`)."""
        numbers = x[:, self._numbers].nan_to_num(nan=0.0)
        if self.logarithms:
            counts = torch.log1p(numbers.clamp(min=0))
            if self.powers is not None:
                counts = box_cox(counts - self._log_centres.to(counts), self._powers.to(counts))
            numbers = torch.where(self._logarithms, counts, numbers)
        parts = [numbers]
        if len(self._few):
            parts.append(self._one_hot(x[:, self._few]))
        for d, embedding in zip(self._many, self.embeddings, strict=True):
            size = self.levels[d]
            parts.append(embedding(x[:, d].nan_to_num(nan=float(size)).long().clamp(0, size)).to(x.dtype))
        if self.holes:
            parts.append((~x[:, self._holes].isnan()).to(x.dtype))
        return torch.cat(parts, 1)

    def _one_hot(self, codes: Tensor) -> Tensor:
        """The codes of all columns of few levels side by side, shape (B, sum of levels); zeros where there is none."""
        observed = ~codes.isnan()
        places = torch.where(observed, codes, 0.0).long() + self._starts
        return codes.new_zeros(codes.shape[0], self._num_codes).scatter(1, places, observed.to(codes.dtype))


def _embedding_size(num_levels: int) -> int:
    """The fourth root of the number of levels, four times: 11 numbers for 51 levels, 23 for 1,000."""
    return round(4 * math.sqrt(math.sqrt(num_levels)))
