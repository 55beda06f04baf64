"""The parts of a model in words."""

from typing import Any

from torch import nn
from torch.distributions import Distribution

from vaekit.models.view import View

_WORDS = {
    "DiagonalNormal": "Gaussian with a diagonal covariance",
    "FullNormal": "Gaussian with a full covariance",
    "StandardNormal": "standard normal",
    "Bernoulli": "Bernoulli, for bits",
    "ContinuousBernoulli": "continuous Bernoulli, for values in [0, 1]",
    "Normal": "normal, for real numbers",
    "Laplace": "Laplace, for real numbers with outliers",
    "Categorical": "categorical, for integers",
    "DiscretizedLogistic": "discretised logistic, for integers in order",
    "DiscretizedLogisticMixture": "mixture of discretised logistics, for integers in order",
    "StudentT": "Student's t, for real numbers with outliers",
    "LogNormal": "log-normal, for positive numbers",
    "Beta": "beta, for proportions",
    "PixelCNN": "autoregressive (PixelCNN), for images of bits or integers",
    "SequenceCategorical": "autoregressive (GRU), for sequences of tokens",
    "Poisson": "Poisson, for counts",
    "NegativeBinomial": "negative binomial, for counts that spread",
    "ZeroInflatedNegativeBinomial": "negative binomial with additional zeros, for counts",
}
_SETTINGS = (
    *("scale", "df", "dispersion", "concentration", "num_components", "num_levels", "num_classes", "grey", "missing"),
    *("mode", "low", "high", "eps", "threshold"),
)


def parts(model: Any) -> list[tuple[str, str]]:
    """(name, description) of the model, its three distributions, its networks, transform and size."""
    head_q, head_x = (getattr(getattr(model, name, None), "head", None) for name in ("encoder", "decoder"))
    prior = getattr(model, "prior", None)
    view = View.of(model)
    event = view.event_shape
    latent = tuple(model.prior().event_shape)
    rows = [
        ("Model", type(model).__name__),
        ("Data x", shape(event)),
        ("Latent z", shape(latent)),
        ("Posterior q(z|x)", component(head_q) if head_q is not None else "given by the model"),
        ("Prior p(z)", component(prior) if isinstance(prior, nn.Module) else family(model.prior())),
        ("Likelihood p(x|z)", component(head_x) if head_x is not None else family(view.at_prior)),
    ]
    for name, owner in (("Encoder network", "encoder"), ("Decoder network", "decoder")):
        network = getattr(getattr(model, owner, None), "network", None)
        if network is not None:
            rows.append((name, architecture(network)))
    transform = view.transform
    rows.append(("Transform of the data", "none" if transform is None else chain(transform)))
    if isinstance(model, nn.Module):
        rows.append(("Parameters", f"{sum(p.numel() for p in model.parameters()):,}"))
    return rows


def shape(event: tuple[int, ...]) -> str:
    """(1, 28, 28) as "1 × 28 × 28 = 784 numbers"."""
    total = 1
    for size in event:
        total *= size
    noun = "number" if total == 1 else "numbers"
    return f"{total:,} {noun}" if len(event) < 2 else f"{' × '.join(map(str, event))} = {total:,} {noun}"


def component(part: Any) -> str:
    """A head, a prior or a transform: what it is, and its settings."""
    name = type(part).__name__
    own = type(part).__module__.startswith("vaekit.")
    values = [(key, vars(part)[key]) for key in _SETTINGS if key in vars(part)]
    if vars(part).get("mode") in ("fresh", "fixed"):  # drawn bits have no threshold
        values = [(key, value) for key, value in values if key != "threshold"]
    shown = [
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in values if plain(value)
    ]
    words = _WORDS.get(name, name) if own else name
    return f"{words} ({', '.join(shown)})".replace("_", " ") if shown else words


def plain(value: Any) -> bool:
    """Whether a setting is worth a word: not a module or tensor, and not the default of an option that is off."""
    return isinstance(value, int | float | str) and value is not False and value != "error"


def chain(transform: Any) -> str:
    """The parts of a transform in order."""
    inner = getattr(transform, "transforms", None)
    return component(transform) if inner is None else ", then ".join(component(part) for part in inner)


def architecture(network: Any) -> str:
    """The class of a network and its widths."""
    inner = getattr(network, "network", None)
    if isinstance(inner, nn.Module):
        return architecture(inner)
    for name in ("hidden", "channels"):
        sizes = getattr(network, name, None)
        if isinstance(sizes, list | tuple) and sizes:
            return f"{type(network).__name__}, {name} {', '.join(map(str, sizes))}"
    return type(network).__name__


def family(distribution: Distribution) -> str:
    """What a foreign model's method returns, by its class."""
    return type(getattr(distribution, "base", distribution)).__name__


def flatten(config: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A configuration as (key, value) in words, nested keys joined by dots."""
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            rows += flatten(value, f"{name}.")
        elif isinstance(value, list | tuple):
            rows.append((name, ", ".join(map(str, value)) or "none"))
        else:
            rows.append((name, "none" if value is None or value == {} else str(value)))
    return rows
