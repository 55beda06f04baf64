"""Data sets that can be had by name. To add one: write a function, and enter it in `NAMED`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from vaekit.data.dataset import Dataset
from vaekit.data.mnist import FASHION_MNIST, MNIST
from vaekit.data.splits import split


def digits(part: str, data_dir: str | Path | None = None) -> Dataset:
    """1,797 handwritten digits, 8 x 8 pixels in 0 ... 16, from scikit-learn (no download).

    They come without a test set. The rows are permuted by `np.random.default_rng(0)`; the first 1,437 (80%) are the
    training part, the other 360 the test part.

    Args:
        part: "train", "test" or "all" (in the order of scikit-learn).
        data_dir: Not used; scikit-learn has them.

    Returns:
        Images (N, 1, 8, 8), uint8, with labels 0 ... 9.

    References:
        E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), https://doi.org/10.24432/C50P49
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]
    whole = Dataset(images, bunch.target.astype(np.int64), "digits", None, (0, 16), "image", "scikit-learn")
    if part == "all":
        return whole
    train, test = split(len(whole), (0.8, 0.2), seed=0)
    return replace(whole.take(train if part == "train" else test), keys=None)  # each part numbers its own rows


def mnist(part: str, data_dir: str | Path | None = None) -> Dataset:
    """60,000 + 10,000 handwritten digits, 28 x 28 pixels in 0 ... 255.

    Args:
        part: "train", "test" or "all".
        data_dir: A folder to look into before all others.

    Returns:
        Images (N, 1, 28, 28), uint8, with labels 0 ... 9.

    References:
        Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-Based Learning Applied to Document Recognition,
        Proc. IEEE 86 (1998), https://doi.org/10.1109/5.726791
    """
    return MNIST.load(part, data_dir)


def fashion_mnist(part: str, data_dir: str | Path | None = None) -> Dataset:
    """60,000 + 10,000 pieces of clothing, 28 x 28 pixels in 0 ... 255.

    Args:
        part: "train", "test" or "all".
        data_dir: A folder to look into before all others.

    Returns:
        Images (N, 1, 28, 28), uint8, with labels 0 ... 9.

    References:
        H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST (2017), https://arxiv.org/abs/1708.07747
    """
    return FASHION_MNIST.load(part, data_dir)


NAMED: dict[str, Callable[[str, str | Path | None], Dataset]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
}
