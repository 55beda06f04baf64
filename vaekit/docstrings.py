r"""What a docstring says of its subject: what it is, when to use it, and where it was published.

The docstring is the one place for all three; lists, the command line and BibTeX are read off it. A reference is

    Burda et al., "Importance weighted autoencoders", 2016, https://arxiv.org/abs/1509.00519, equation 8.

in the section `References:`, over as many lines as it takes. A constructor argument in parentheses and backticks after
the address, as in (`free_bits`), says that the source matters only where that argument is not left at its default.
"""

import inspect
import re
import unicodedata
from dataclasses import dataclass

__all__ = ["Reference", "advice", "references", "summary"]

_REFERENCE = re.compile(
    r'((?:al\.|[^".;])+), "([^"]+)", (?:[^",]+, )?(\d{4}), (https?://\S+)'  # authors, title, edition, year, address
    r"(?:[^\"]*?\(`(\w+)`\))?"  # argument
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"`\\])")
_ADVICE = re.compile(r"(?<![\w-])[Uu]se (?:it|them)\b.*?(?=[.!?](?:\s|$)|$)")
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
    def author(self) -> str:
        """Authors as BibTeX has them: "Kingma and Welling", "Burda and others"."""
        return re.sub(r",? & |, ", " and ", self.authors.replace(" et al.", " and others"))

    @property
    def key(self) -> str:
        """The first author's last name, the year and the title's first word: burda2016importance."""
        name = self.author.partition(" and ")[0].split()[-1]
        word = next((word for word in re.findall(r"\w+", self.title.lower()) if word not in _SMALL_WORDS), "")
        plain = unicodedata.normalize("NFKD", f"{name.lower()}{self.year}{word}")
        return re.sub(r"[^a-z0-9]", "", plain)


def references(thing: object) -> tuple[Reference, ...]:
    """The references in the docstring of a class, a function or a module, in their order; empty where there are none.

    Example:
        >>> from vaekit import objectives
        >>> [f"{reference.authors} {reference.year}" for reference in references(objectives.IWAE)]
        ['Burda et al. 2016']
    """
    section = re.search(r"^References:\n((?:[ \t]+.*\n?)+)", inspect.getdoc(thing) or "", re.M)
    text = " ".join(section[1].split()) if section else ""
    return tuple(
        Reference(authors.strip(), title, int(year), url.rstrip(".,;:"), argument or None)
        for authors, title, year, url, argument in _REFERENCE.findall(text)
    )


def summary(thing: object) -> str:
    """What it is: the first sentence of its docstring; empty where that one is a formula."""
    sentence = _SENTENCE_END.split(_prose(thing)[0])[0].rstrip(".")
    return "" if "\\(" in sentence else sentence.replace("`", "")


def advice(thing: object) -> str:
    """When to use it: the first sentence, or half of one, that says "use it"; empty where there is none."""
    found = _ADVICE.search(" ".join(_prose(thing)))
    if found is None:
        return ""
    words, formula, _ = found[0].replace("`", "").partition("\\(")
    text = words.rpartition(";")[0] if formula else words
    return text[:1].upper() + text[1:]


def _prose(thing: object) -> list[str]:
    """The paragraphs in front of the sections of a docstring, a line each."""
    introduction = re.split(r"^[A-Z]\w*:\n", inspect.getdoc(thing) or "", maxsplit=1, flags=re.M)[0]
    return [" ".join(paragraph.split()) for paragraph in introduction.strip().split("\n\n")]
