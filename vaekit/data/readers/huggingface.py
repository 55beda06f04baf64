"""Data sets of Hugging Face's `datasets`: a folder that `save_to_disk` wrote, or the object itself."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from vaekit.data.dataset import About, Dataset, StoredDataset
from vaekit.data.disk_cache import decoded, has_disk_room, no_room, rows_folder, stays_in_memory
from vaekit.data.kinds import IMAGES
from vaekit.data.readers.pieces import stored
from vaekit.data.readers.pixels import common_channels, read_image, with_channels
from vaekit.data.readers.safe_reading import reading
from vaekit.data.readers.tables import from_frame
from vaekit.data.reading import Reading, notice
from vaekit.errors import ColumnError, DataError
from vaekit.paths import as_text

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

_STATE, _PARTS = "state.json", "dataset_dict.json"
_BLOCK_BYTES = 2**22
_STREAMED = 1000  # rows of a stream that are held in memory


def is_saved(folder: Path) -> bool:
    """Whether `datasets` wrote a folder."""
    return (folder / _STATE).is_file() or (folder / _PARTS).is_file()


def saved_dataset(
    folder: Path,
    label: str | None = None,
    in_memory: bool | None = None,
    key: str | None = None,
    how: Reading | None = None,
) -> Dataset:
    """Read a folder that `save_to_disk` wrote; see `from_huggingface`.

    Raises:
        DataError: if the folder holds several parts, or cannot be read.
    """
    _refuse_without_datasets()
    import datasets

    if (folder / _PARTS).is_file():
        parts = sorted(path.name for path in folder.iterdir() if (path / _STATE).is_file())
        raise DataError(f"{folder} holds the parts {', '.join(parts)}. Name one: {folder / (parts or ['train'])[0]}.")
    try:
        with reading(folder):
            found = datasets.load_from_disk(str(folder))
    except (ValueError, KeyError, TypeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{folder} is not a readable data set of Hugging Face: {error}. Save it again.") from error
    return from_huggingface(
        found, label, key=key, in_memory=in_memory, reading=how, name=as_text(folder.name), source=str(folder)
    )


def from_huggingface(
    dataset: "datasets.Dataset",
    label: str | None = None,
    *,
    key: str | None = None,
    in_memory: bool | None = None,
    reading: Reading | None = None,
    name: str = "huggingface",
    source: str = "memory",
) -> Dataset:
    """Rows of a `datasets.Dataset` or `IterableDataset`: pixels of its one column of images, or columns of numbers.

    What takes more than a quarter of the free memory stays on disk, decoded once into a file of the cache. A stream
    (`IterableDataset`) is read to its end once, a thousand rows at a time, and kept on disk for that. Names of
    classes are the labels where the label is a `ClassLabel`; the only one of a set of images is taken by itself.

    Args:
        dataset: the data set.
        label: column with the labels.
        key: column with the identifiers of the rows.
        in_memory: whether all rows are held in memory; None decides by their size.
        reading: which columns of numbers are data.
        name: what to call the data.
        source: where they are.

    Returns:
        Images of shape (N, C, H, W), uint8, C being 1 or 3; or a table of numbers, shape (N, D).

    Raises:
        DataError: if there is no column of images or numbers, images differ in size, or `dataset` holds several parts;
            if a stream has no row, or breaks off, or the disk is full; if `datasets` is not installed.

    Warns:
        ReadingWarning: `dataset` is a stream.

    Example:
        >>> import datasets
        >>> rows = from_huggingface(datasets.Dataset.from_dict({"a": [1.0, 2.0], "b": [0.5, 0.25]}))
        >>> rows.columns, rows.x.tolist()
        (('a', 'b'), [[1.0, 0.5], [2.0, 0.25]])
    """
    _refuse_without_datasets()
    import datasets

    if isinstance(dataset, datasets.DatasetDict | datasets.IterableDatasetDict):
        raise DataError(f"{name!r} holds the parts {', '.join(dataset)}. Hand over one of them.")
    if isinstance(dataset, datasets.IterableDataset):
        with _kept(dataset, name) as kept:
            return from_huggingface(
                kept, label, key=key, in_memory=in_memory, reading=reading, name=name, source=source
            )
    if not isinstance(dataset, datasets.Dataset):
        raise DataError(f"expected a data set of Hugging Face's datasets, got {type(dataset).__name__}.")
    how = reading or Reading()
    for what, column in (("label", label), ("key", key)):
        if column is not None and column not in dataset.column_names:
            raise ColumnError(f"{name!r} has no column {column!r}; it has {', '.join(dataset.column_names)}.", what)
    images = [column for column, feature in dataset.features.items() if isinstance(feature, datasets.Image)]
    if images:
        return _images(dataset, images, label, key, in_memory, name, source)
    table = _Rows(dataset)
    classes = {} if label is None else {label: dataset.features[label]}
    if in_memory or (in_memory is None and stays_in_memory(8 * len(dataset) * len(dataset.column_names))):
        whole = dataset.with_format("arrow")[:]
        found = from_frame(whole, label, key=key, name=name, source=source, reading=how)
    else:
        found = stored(table, label, key, how, name=name, source=source)
    return _with_names(found, classes.get(label or ""))


@contextmanager
def _kept(stream: "datasets.IterableDataset", name: str) -> "Iterator[datasets.Dataset]":
    """The rows of a stream as a data set in a file of the cache, which goes with the body.

    Raises:
        DataError: if the stream has no row, or breaks off, or the disk is full.
    """
    import datasets
    import pyarrow as pa
    from datasets.arrow_writer import ArrowWriter

    for column, feature in (stream.features or {}).items():
        if isinstance(feature, datasets.Image):  # the files as they are, not their pixels
            stream = stream.cast_column(column, datasets.Image(decode=False))
    with TemporaryDirectory(dir=rows_folder(), prefix="stream-") as folder:
        path, num_rows = Path(folder) / "rows.arrow", 0
        try:
            with ArrowWriter(path=str(path), features=stream.features, writer_batch_size=_STREAMED) as writer:
                for record in stream:
                    writer.write(record)
                    num_rows += 1
                if num_rows:
                    writer.finalize()
        except (OSError, pa.ArrowException, ValueError, TypeError) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise DataError(
                f"the stream {name!r} could not be kept on disk beyond row {num_rows:,}: {said}. Take fewer rows "
                "(stream.take(n)), or set VAEKIT_CACHE to a folder on a larger disk."
            ) from error
        if not num_rows:
            raise DataError(f"the stream {name!r} has no row.")
        notice(f"{name!r} is a stream: its {num_rows:,} rows are read once, and kept on disk.")
        kept = datasets.Dataset.from_file(str(path))
        for column, feature in kept.features.items():
            if isinstance(feature, datasets.Image):
                kept = kept.cast_column(column, datasets.Image())
        yield kept


class _Rows:
    """The rows of a data set in the order that it has been given, a piece at a time."""

    def __init__(self, dataset: "datasets.Dataset") -> None:
        self._dataset = dataset.with_format("arrow")
        self.num_rows, self.schema = len(dataset), self._dataset[:1].schema

    def batches(self, num_rows: int, columns: Sequence[str]) -> Iterator["pa.Table"]:
        """Tables of at most so many rows each, in order."""
        yield from self._dataset.select_columns(list(columns)).iter(num_rows)


def _with_names(rows: Dataset, feature: "datasets.features.Feature | None") -> Dataset:
    """The rows with the names of the classes as labels, where the label's feature has them."""
    import datasets

    names = feature.names if isinstance(feature, datasets.ClassLabel) else None
    if names and rows.labels is not None and rows.labels.dtype.kind in "iu":
        return rows.labelled(np.array([names[code] if code >= 0 else "" for code in rows.labels]))
    return rows


def _images(
    dataset: "datasets.Dataset",
    columns: list[str],
    label: str | None,
    key: str | None,
    in_memory: bool | None,
    name: str,
    source: str,
) -> Dataset:
    import datasets

    if len(columns) > 1:
        raise DataError(f"{name!r} has several columns of images: {', '.join(columns)}. Select one of them.")
    classes = [column for column, one in dataset.features.items() if isinstance(one, datasets.ClassLabel)]
    label = label or (classes[0] if len(classes) == 1 else None)
    pictures = _Pictures(dataset, columns[0], name)
    about: About = {"name": name, "source": source, "kind": IMAGES.name, "value_range": IMAGES.value_range}
    if key is not None:
        about |= {"keys": np.array(dataset[key][:]), "key": key}
    if label is not None:
        about["labels"] = np.array(dataset[label][:])
    num_bytes = math.prod(pictures.shape)
    if in_memory or (in_memory is None and stays_in_memory(num_bytes)) or len(dataset) < 2:
        rows = Dataset(pictures.read(np.arange(len(dataset))), **about)
    else:
        from vaekit.data.disk_rows import StoredRows, ahead

        if not has_disk_room(num_bytes):
            raise DataError(f"{source} is too large for memory: {no_room(num_bytes)}.")
        blocks = np.array_split(np.arange(len(dataset)), math.ceil(num_bytes / _BLOCK_BYTES))
        source_of_rows = decoded(pictures.shape, np.dtype(np.uint8), ahead(pictures.read, blocks))
        rows = StoredDataset(StoredRows(source_of_rows, name=name), **about)
    return _with_names(rows, None if label is None else dataset.features[label])


class _Pictures:
    """Images of one size, decoded when they are asked for."""

    def __init__(self, dataset: "datasets.Dataset", column: str, name: str) -> None:
        import datasets

        self._rows = dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))
        self._column, self._name = column, name
        # One image may be grey where others have colours: all are looked at before the first is kept.
        sizes = [self._pixels(i).shape for i in range(min(len(dataset), 256))]
        channels = common_channels(1 if len(size) == 2 else size[2] for size in sizes)
        self.shape: tuple[int, ...] = (len(dataset), channels, *sizes[0][:2])

    def _pixels(self, i: int) -> np.ndarray:
        cell = self._rows[int(i)][self._column]
        if cell is None:
            raise DataError(f"row {i} of {self._name!r} has no image. Leave such rows out.")
        place = Path(cell["path"] or f"row {i} of {self._name}")
        return read_image(place, None, content=cell["bytes"])[0]

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Pixels of shape (B, C, H, W)."""
        x = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for row, i in zip(x, indices, strict=True):
            pixels = self._pixels(i)
            own = 1 if pixels.ndim == 2 else pixels.shape[2]
            if pixels.shape[:2] != self.shape[2:] or common_channels((own, self.shape[1])) != self.shape[1]:
                height, width = self.shape[2:]
                raise DataError(
                    f"row {i} of {self._name!r} is {pixels.shape[0]} x {pixels.shape[1]} with {own} channel(s); the "
                    f"others are {height} x {width} with {self.shape[1]}. Resize and convert all images alike."
                )
            row[:] = with_channels(pixels, self.shape[1])
        return x


def _refuse_without_datasets() -> None:
    """Raise a `DataError` where the library is not installed."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "data sets of Hugging Face are read by datasets, which is not installed: pip install 'vaekit[huggingface]'"
        ) from error
    datasets.disable_progress_bars()
