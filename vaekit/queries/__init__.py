"""Questions put to a fitted model: classes, clusters, what stood in holes, what goes with given cells, odd cells."""

from vaekit.queries.calibration import Reliability, reliability
from vaekit.queries.classify import Classification, classify
from vaekit.queries.clusters import Clusters, clusters, num_components
from vaekit.queries.elements import ElementScores, score_elements
from vaekit.queries.given import sample_given
from vaekit.queries.impute import Imputation, impute
from vaekit.queries.latents import FEWEST
from vaekit.queries.pooling import Pooled, pool

__all__ = [
    "FEWEST",
    "Classification",
    "Clusters",
    "ElementScores",
    "Imputation",
    "Pooled",
    "Reliability",
    "classify",
    "clusters",
    "impute",
    "num_components",
    "pool",
    "reliability",
    "sample_given",
    "score_elements",
]
