"""Where a run comes from: the place of its data, and the run that it went on from."""

from pydantic import BaseModel, ConfigDict


class Origin(BaseModel):
    """The run that a run went on from.

    Attributes:
        name: name of its folder.
        weights_sha256: digest of its weights.
        place: absolute path of its folder, as a text of `vaekit.paths.to_place`; in `settings.json` alone.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = ""
    weights_sha256: str
    place: str | None = None


class Local(BaseModel):
    """What a run remembers of its data on the machine of its fit: in `settings.json`, which need not travel.

    Places are texts of `vaekit.paths.to_place`.

    Attributes:
        place: absolute path of the data; None for a named set and for stdin.
        beside: the same path as seen from the folder of the run, which may move along with its data.
        valid_place: absolute path of the validation data.
        valid_beside: that one as seen from the folder of the run.
        data_dir: absolute path of the folder where named sets were looked for first.
        column_crc32: checksum of each column of a table.
        row_digests: of rows that are no named set; see `changes.row_digests`.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    place: str | None = None
    beside: str | None = None
    valid_place: str | None = None
    valid_beside: str | None = None
    data_dir: str | None = None
    column_crc32: tuple[int, ...] | None = None
    row_digests: str | None = None
