"""ctgan's TVAE at the same work: its own `fit`, on a table that is encoded already. Runs in the peers' venv.

Its encoder of columns is replaced by one that hands the rows on, so that the width is known and only the training loop
is timed: nine continuous columns of 1 value and 9 modes each, and one of 5 categories, 95 numbers per row.
"""

from typing import Any

import numpy as np
from ctgan.data_transformer import SpanInfo
from ctgan.synthesizers import tvae

from benchmarks.workers.turns import Turns, serve


class Encoded:
    """Stands in for ctgan's DataTransformer: the spans of an encoded row, and the rows as they are."""

    def __init__(self) -> None:
        continuous = [[SpanInfo(1, "tanh"), SpanInfo(9, "softmax")]] * 9
        self.output_info_list = [*continuous, [SpanInfo(5, "softmax")]]
        self.output_dimensions = 95

    def fit(self, rows: np.ndarray, discrete_columns: Any = ()) -> None:
        """Nothing to learn."""

    def transform(self, rows: np.ndarray) -> np.ndarray:
        """The rows themselves."""
        return rows


def train(turns: Turns, data: str, net: dict[str, Any], batch: int, every: int = 1) -> None:
    """A `fit` of `every` epochs per turn."""
    x, hidden = np.load(data), tuple(net["hidden"])
    tvae.DataTransformer = Encoded
    for _ in turns:
        model = tvae.TVAE(net["latent"], hidden, hidden[::-1], batch_size=batch, epochs=every, enable_gpu=False)
        model.fit(x)
        turns.report(steps=-(-len(x) // batch) * every, rows=len(x) * every)


if __name__ == "__main__":
    serve(train=train)
