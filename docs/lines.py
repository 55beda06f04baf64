"""Link every definition that a page names to its line: `python docs/lines.py` renews the links of docs/theory.md.

A name in the code, such as `vaekit/bounds.py:elbo`, becomes a link to the line where it is defined; a file without a
name becomes a link to the file. The tests compare the page with what this script would write.
"""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/theory.md"
REFERENCE = re.compile(r"\[?`((?:vaekit|tests|reproductions)/[\w/]+\.py)(?::([\w.]+))?`(?:\]\([^)]*\))?")


@cache
def lines(file: Path) -> dict[str, int]:
    """The line of each class, function and method of a file, counted from 1; methods are called `Class.method`."""
    found = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node.lineno
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{n.name}": n.lineno for n in node.body if isinstance(n, ast.FunctionDef)}
    return found


def renewed(text: str, root: Path = ROOT) -> str:
    """The text of a page in `docs/` with each reference linked to where its name is defined under `root`.

    Raises:
        ValueError: if a file does not exist or does not define a name.
    """

    def link(match: re.Match[str]) -> str:
        path, name = match.groups()
        if not (root / path).is_file():
            raise ValueError(f"there is no file {path}")
        if name is None:
            return f"[`{path}`](../{path})"
        if name not in lines(root / path):
            raise ValueError(f"{path} does not define {name}")
        return f"[`{path}:{name}`](../{path}#L{lines(root / path)[name]})"

    return REFERENCE.sub(link, text)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
