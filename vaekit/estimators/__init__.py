"""scikit-learn's manners for a fitted model: features, outliers, missing values, synthetic rows."""

from vaekit.estimators.transformer import VAETransformer

__all__ = ["VAETransformer"]
