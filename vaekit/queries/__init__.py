"""Questions put to a fitted model: classes, what stood in holes, what goes with given cells, which cells are odd."""

from vaekit.queries.calibration import Reliability, reliability
from vaekit.queries.classify import Classification, classify
from vaekit.queries.elements import ElementScores, score_elements
from vaekit.queries.given import sample_given
from vaekit.queries.impute import Imputation, impute
from vaekit.queries.latents import FEWEST
from vaekit.queries.pooling import Pooled, pool

__all__ = [
    "FEWEST",
    "Classification",
    "ElementScores",
    "Imputation",
    "Pooled",
    "Reliability",
    "classify",
    "impute",
    "pool",
    "reliability",
    "sample_given",
    "score_elements",
]
