"""Data sets that can be had by name. To add one: write a function, and enter it in `NAMED`."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vaekit.data.dataset import Dataset
from vaekit.data.kinds import IMAGES
from vaekit.data.readers.idx import read_idx
from vaekit.data.splits import split
from vaekit.errors import DataError

SYSTEM_FOLDER = Path("/usr/share/datasets")  # where Debian packages such as dataset-fashion-mnist put theirs
PREFIXES = {"train": "train", "test": "t10k"}
_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


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
    whole = Dataset(images, bunch.target.astype(np.int64), "digits", None, (0, 16), IMAGES.name, "scikit-learn")
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


@dataclass(frozen=True)
class MnistLike:
    """A data set of grey images in the layout of MNIST, and where to find it.

    Args:
        name: Its name, also that of its folder.
        mirrors: Addresses to which the names of the files are appended, tried in this order.
        sha256: Names of the gzipped files, and their hashes as the mirrors hand them out.
        label_sha256: Hashes of the values of its labels; they tell sets apart whose files have the same names.
    """

    name: str
    mirrors: tuple[str, ...]
    sha256: dict[str, str] = field(repr=False)
    label_sha256: tuple[str, ...] = field(default=(), repr=False)

    def load(self, part: str, data_dir: str | Path | None = None) -> Dataset:
        """Read one part, or both with the training part first.

        Args:
            part: "train", "test" or "all".
            data_dir: A folder to look into before all others.

        Returns:
            Images (N, 1, H, W), uint8, and their labels.

        Raises:
            DataError: The files are nowhere and cannot be downloaded, or one of them is damaged.
        """
        prefixes = list(PREFIXES.values()) if part == "all" else [PREFIXES[part]]
        folder = self._find(prefixes, data_dir) or self._download(prefixes)
        x = np.concatenate([_read(folder, f"{prefix}-{_IMAGES}") for prefix in prefixes])
        labels = np.concatenate([_read(folder, f"{prefix}-{_LABELS}") for prefix in prefixes])
        if x.ndim != 3 or x.dtype != np.uint8:
            raise DataError(f"The images in {folder} must have shape (N, H, W) and 8 bits; got {x.shape} {x.dtype}.")
        return Dataset(x[:, None], labels.astype(np.int64), self.name, None, (0, 255), IMAGES.name, str(folder))

    def _find(self, prefixes: list[str], data_dir: str | Path | None) -> Path | None:
        """The first folder that has all the files, or None."""
        roots = [Path(os.path.expanduser(root)) for root in (data_dir, os.environ.get("VAEKIT_DATA")) if root]
        folders = [folder for root in roots for folder in (root / self.name, root)] + [SYSTEM_FOLDER / self.name]
        for folder in folders:
            names = [f"{prefix}-{suffix}" for prefix in prefixes for suffix in (_IMAGES, _LABELS)]
            if all(_existing(folder, name) for name in names) and not self._is_other_set(folder, prefixes[0]):
                return folder
        return None

    def _is_other_set(self, folder: Path, prefix: str) -> bool:
        """Whether the files belong to another set: all sets in this layout use the same four names."""
        digest = hashlib.sha256(_read(folder, f"{prefix}-{_LABELS}").tobytes()).hexdigest()
        return any(digest in other.label_sha256 for other in SETS if other.name != self.name)

    def _download(self, prefixes: list[str]) -> Path:
        """Fetch the files into the cache, each from the first mirror that has it unharmed."""
        import pooch

        from vaekit.engine.caches import cache_dir  # here: a data set can be looked up without torch

        folder = cache_dir(self.name)
        mirrors = [pooch.create(folder, url, registry=self.sha256) for url in self.mirrors]
        failures: list[str] = []
        for file in (f"{prefix}-{suffix}.gz" for prefix in prefixes for suffix in (_IMAGES, _LABELS)):
            for mirror in mirrors:
                try:
                    mirror.fetch(file)
                    break
                except (OSError, ValueError) as error:  # no connection, no such file; a hash that differs
                    reason = (str(error).splitlines() or [""])[0]
                    failures.append(f"{mirror.base_url}{file}: {type(error).__name__} {reason[:80]}")
            else:
                raise DataError(
                    f"{self.name!r} is not on this machine and could not be downloaded. Get the files "
                    f"{', '.join(self.sha256)} (packed or not) and put them into a folder {self.name!r} within "
                    f"$VAEKIT_DATA or the folder that --data-dir (data_dir=) names. Tried: {'; '.join(failures)}."
                )
        return folder


def _existing(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def _read(folder: Path, name: str) -> np.ndarray:
    return read_idx(_existing(folder, name) or folder / name)


MNIST = MnistLike(
    name="mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    sha256={
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    label_sha256=(
        "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    ),
)
FASHION_MNIST = MnistLike(
    name="fashion-mnist",
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    sha256={
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    label_sha256=(
        "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
        "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    ),
)
SETS = (MNIST, FASHION_MNIST)

NAMED: dict[str, Callable[[str, str | Path | None], Dataset]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
}
