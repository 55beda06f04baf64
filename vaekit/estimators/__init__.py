"""scikit-learn's manners for a fitted model: features, outliers, missing values, synthetic rows, classes."""

from vaekit.estimators.classifier import VAEClassifier
from vaekit.estimators.detector import VAEDetector
from vaekit.estimators.imputer import VAEImputer
from vaekit.estimators.synthesizer import VAESynthesizer
from vaekit.estimators.transformer import VAETransformer

__all__ = ["VAEClassifier", "VAEDetector", "VAEImputer", "VAESynthesizer", "VAETransformer"]
