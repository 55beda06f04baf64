"""How parts are printed: by the arguments of their constructors, which every part keeps under their own names."""

import inspect

from torch import nn

_MOST_WORDS = 60


class Printed(nn.Module):
    """A module that is printed as it was made: `DiagonalNormal(16)`.

    Arguments without a default stand without their names, others where they differ from it; tensors and functions are
    left out, and modules are printed below where they were handed in or are networks.
    """

    def extra_repr(self) -> str:
        """The arguments, for `repr`."""
        words = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value, default = getattr(self, name, None), parameter.default
            if _is_plain(value) and not (type(value) is type(default) and value == default):
                words.append(_in_words(value) if default is inspect.Parameter.empty else f"{name}={_in_words(value)}")
        return ", ".join(words)

    def __repr__(self) -> str:
        arguments = inspect.signature(type(self)).parameters
        children = self.named_children()
        if any(name in arguments or any(True for _ in child.children()) for name, child in children):
            return super().__repr__()
        return f"{type(self).__name__}({self.extra_repr()})"


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value) and len(repr(value)) <= _MOST_WORDS
    return isinstance(value, bool | int | float | str)


def _in_words(value: object) -> str:
    if isinstance(value, tuple) and len(value) == 1:
        return repr(value[0])
    return f"{value:g}" if isinstance(value, float) else repr(tuple(value) if isinstance(value, tuple) else value)
