"""Where vaekit keeps what can be made again: one folder per user, which may be deleted at any time."""

import os
import sys
import tempfile
from pathlib import Path

VARIABLE = "VAEKIT_CACHE"


def cache_dir(name: str) -> Path:
    """The folder `name` in vaekit's cache, made if it is not there.

    The cache is `$VAEKIT_CACHE`, or else the place that the system has for caches: `$XDG_CACHE_HOME/vaekit` or
    `~/.cache/vaekit`, `~/Library/Caches/vaekit` on a Mac, `%LOCALAPPDATA%/vaekit/Cache` on Windows. Where it cannot be
    written, a folder of the same name among the temporary files stands in for it.
    """
    folder = _root() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    user = "user" if sys.platform == "win32" else os.getuid()
    folder = Path(tempfile.gettempdir()) / f"vaekit-{user}" / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _root() -> Path:
    if chosen := os.environ.get(VARIABLE):
        return Path(os.path.expanduser(chosen)).absolute()
    import platformdirs  # here: it takes 30 ms, which `import vaekit.engine` need not spend

    return platformdirs.user_cache_path("vaekit", appauthor=False)
