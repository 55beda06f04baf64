r"""What a docstring says of its subject: what it is, when to use it, and where it was published.

The docstring is the one place for all three; lists, the command line and BibTeX are read off it. A reference is

    Burda et al., "Importance weighted autoencoders", 2016, https://arxiv.org/abs/1509.00519, equation 8.

in the section `References:`, over as many lines as it takes. A constructor argument in parentheses and backticks after
the address, as in (`free_bits`), says that the source matters only where that argument is not left at its default.
"""

import inspect
import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Reference", "advice", "bibtex", "keys", "of", "summary"]

_ENTRY = re.compile(
    r'(?P<authors>[^"]+?),\s+"(?P<title>[^"]+)",\s+(?:[^",]+,\s+)?(?P<year>\d{4}),\s+(?P<url>https?://\S+)'
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"`\\])")
_ADVICE = re.compile(r"(?<![\w-])[Uu]se (?:it|them)\b.*?(?=[.!?](?:\s|$)|$)", re.S)
_SMALL_WORDS = frozenset({"a", "an", "the", "on"})


@dataclass(frozen=True)
class Reference:
    """One published source."""

    authors: str
    """As in the text: "Kingma & Welling", "Burda et al."."""
    title: str
    year: int
    url: str
    argument: str | None = None
    """The constructor argument that it belongs to; None for the whole."""

    @property
    def short(self) -> str:
        """Burda et al. 2016."""
        return f"{self.authors} {self.year}"

    @property
    def key(self) -> str:
        """The first author's last name, the year and the title's first word: burda2016importance."""
        first = re.split(r",| & | et al\.?", self.authors)[0].split()[-1]
        words = [word for word in re.findall(r"\w+", self.title.lower()) if word not in _SMALL_WORDS]
        plain = unicodedata.normalize("NFKD", f"{first.lower()}{self.year}{words[0] if words else ''}")
        return re.sub(r"[^a-z0-9]", "", plain.encode("ascii", "ignore").decode())

    @property
    def author(self) -> str:
        """Authors as BibTeX has them: "Kingma and Welling", "Burda and others"."""
        names = re.sub(r",?\s+et al\.?$", " and others", self.authors)
        return re.sub(r"\s*,\s*(?:&\s*|and\s+)?|\s+&\s+", " and ", names)


def _text(thing: Any) -> str:
    return inspect.getdoc(thing) or ""


def of(thing: Any) -> tuple[Reference, ...]:
    """The references in the docstring of a class, a function or a module, in their order; empty where there are none.

    Example:
        >>> from vaekit import objectives
        >>> [reference.short for reference in of(objectives.IWAE)]
        ['Burda et al. 2016']
    """
    section = re.search(r"^References:\n((?:[ \t]+.*\n?)+)", _text(thing), re.M)
    if section is None:
        return ()
    text = " ".join(line.strip() for line in section[1].splitlines())
    entries = list(_ENTRY.finditer(text))
    found = []
    for i, entry in enumerate(entries):
        # What stands before the authors is the end of the reference before: ", equation 10."
        authors = re.split(r"[.;]\s+", entry["authors"])[-1].strip()
        # The next match begins where this one ends: what is said after the address is part of its authors.
        after = text[entry.end() : entries[i + 1].end("authors") if i + 1 < len(entries) else len(text)]
        argument = re.search(r"\(`(\w+)`\)", after)
        url = entry["url"].rstrip(".,;:")
        found.append(Reference(authors, entry["title"], int(entry["year"]), url, argument[1] if argument else None))
    return tuple(found)


def _introduction(thing: Any) -> str:
    """The prose of a docstring in front of its sections, paragraphs by blank lines."""
    return re.split(r"^[A-Z]\w*:\n", _text(thing), maxsplit=1, flags=re.M)[0].strip()


def _plain(text: str) -> str:
    """Without the marks of code."""
    return text.replace("`", "")


def summary(thing: Any) -> str:
    """What it is: the first sentence of its docstring; empty where that one is a formula."""
    paragraph = " ".join(_introduction(thing).split("\n\n")[0].split())
    sentence = _SENTENCE_END.split(paragraph)[0].rstrip(".")
    return "" if "\\(" in sentence else _plain(sentence)


def advice(thing: Any) -> str:
    """When to use it: the first sentence, or half of one, that says "use it"; empty where there is none."""
    found = _ADVICE.search(" ".join(_introduction(thing).split()))
    if found is None:
        return ""
    text = found[0][0].upper() + found[0][1:]
    return _plain(text if "\\(" not in text else text[: text.index("\\(")].rpartition(";")[0])


def keys(references: Sequence[Reference]) -> list[str]:
    """A key for each reference: equal for equal addresses; other sources of one key get the suffixes b, c, ..."""
    by_url: dict[str, str] = {}
    for reference in references:
        taken = by_url.values()
        free = (reference.key + suffix for suffix in ("", *string.ascii_lowercase[1:]))
        by_url.setdefault(reference.url, next(key for key in free if key not in taken))
    return [by_url[reference.url] for reference in references]


def bibtex(references: Iterable[Reference], comments: Iterable[str] = ()) -> str:
    """References as BibTeX, each source once.

    Args:
        references: in the order wanted; those with an address that came before are left out.
        comments: a line in front of each entry, as many as there are references, or none.

    Returns:
        Entries with key, author, title, year and url.

    Example:
        >>> from vaekit import objectives
        >>> print(bibtex(of(objectives.IWAE)))
        @misc{burda2016importance,
          author = {Burda and others},
          title = {{Importance weighted autoencoders}},
          year = {2016},
          url = {https://arxiv.org/abs/1509.00519},
        }
    """
    references = list(references)
    lines = list(comments) or [""] * len(references)
    entries: dict[str, str] = {}
    for reference, key, comment in zip(references, keys(references), lines, strict=True):
        if key in entries:
            continue
        title = re.sub(r"([&%#_])", r"\\\1", reference.title)
        fields = {"author": reference.author, "title": f"{{{title}}}", "year": reference.year, "url": reference.url}
        body = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
        above = f"% {comment}\n" if comment else ""
        entries[key] = f"{above}@misc{{{key},\n{body}}}"
    return "\n\n".join(entries.values())
