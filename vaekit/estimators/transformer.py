"""Features: E[z|x] as a transformer of scikit-learn."""

from typing import Any, Unpack

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted

from vaekit.data import Dataset
from vaekit.estimators.base import VAEEstimator
from vaekit.estimators.shared import Shared, spelled_out
from vaekit.estimators.tables import given_back


class VAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, VAEEstimator):  # type: ignore[misc]
    r"""Codes of rows: \( E[z|x] \) under q(z|x), and the way back to \( E[x|z] \).

    Use it as a step before other estimators, or to look at a table in few dimensions; columns may hold words, dates and
    holes. It is no PCA: codes have no order, and their axes no meaning of their own.

    References:
        Kingma and Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114.

    Args:
        **shared: see `VAEEstimator`, which names them all.

    Example:
        >>> X = np.random.default_rng(0).normal(size=(60, 4))
        >>> codes = VAETransformer(latent_dim=2, hidden=8, max_epochs=2, compile="off", random_state=0)
        >>> codes.fit_transform(X).shape, codes.get_feature_names_out().tolist()
        ((60, 2), ['vaetransformer0', 'vaetransformer1'])
    """

    @spelled_out
    def __init__(self, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)

    def _settle(self, rows: Dataset | None) -> None:
        self._n_features_out = int(np.prod(self._latent_shape))

    @property
    def _latent_shape(self) -> tuple[int, ...]:
        return tuple(self.run_.model.latent_shape)

    def transform(self, X: Any) -> np.ndarray:
        """E[z|x] of each row: shape (N, L), float64."""
        codes = self._run.encode(self._rows(X)).values
        return codes.reshape(len(codes), -1)

    def inverse_transform(self, Z: Any) -> Any:
        """E[x|z] of each code, in the units and the form of X: means of numbers, the most probable levels.

        Args:
            Z: codes, shape (N, L).

        Returns:
            A data frame of the library that X came in, or an array of shape (N, D). Constants are filled in,
            identifiers counted, free text is empty.
        """
        check_is_fitted(self, "run_")
        codes = torch.as_tensor(check_array(Z, dtype=np.float64))
        if codes.shape[1] != self._n_features_out:
            raise ValueError(f"Z has {codes.shape[1]} features, but the codes have {self._n_features_out}")
        return given_back(self._run.decode(codes.reshape(-1, *self._latent_shape)), self.layout_)
