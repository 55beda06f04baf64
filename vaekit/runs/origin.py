"""Where a run comes from that went on from another one."""

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
