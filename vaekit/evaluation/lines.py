"""The numbers of `evaluate` as lines of one table."""

import math
from typing import Any, NamedTuple

NAN = math.nan


class Line(NamedTuple):
    """One number: what it is, its value, and its errors (NaN where there is none)."""

    label: str
    value: float
    mean_stderr: float = NAN
    sampling_stderr: float = NAN


def lines(numbers: dict[str, Any]) -> list[Line]:
    """Lines of the bounds and of whatever else `evaluate` computed; parts that it could not compute are left out."""
    found = _bounds(numbers)
    parts = {"diagnostics": _health, "trend": _trend, "ais": _annealed, "hmc": _posterior, "two_sample": _two_sample}
    for name, make in parts.items():
        if isinstance(numbers.get(name), dict):
            found += make(numbers[name])
    return found


def health_lines(numbers: dict[str, Any]) -> list[Line]:
    """The lines of the diagnostics alone; none where there are none."""
    found = numbers.get("diagnostics")
    return _health(found) if isinstance(found, dict) else []


def reasons(numbers: dict[str, Any]) -> list[str]:
    """Why parts are missing, a sentence each."""
    names = ("diagnostics", "ais", "hmc", "two_sample")
    return [f"{name}: {numbers[name]}" for name in names if isinstance(numbers.get(name), str)]


def _line(label: str, numbers: dict[str, float]) -> Line:
    errors = (numbers.get("mean_stderr", NAN), numbers.get("sampling_stderr", NAN))
    return Line(label, numbers["mean"], *errors)


def _bounds(numbers: dict[str, Any]) -> list[Line]:
    return [
        _line("ELBO", numbers["elbo"]),
        _line("  log-likelihood", numbers["log_likelihood"]),
        _line("  KL", numbers["kl"]),
        _line(f"IWAE, K = {numbers['num_samples']}", numbers["iwae"]),
    ]


def _health(found: dict[str, Any]) -> list[Line]:
    information = found["mutual_information"]
    limit = f"at most log {found['num_points']} = {information['limit']:.2f}"
    result = [
        Line(f"active units of {found['num_units']}", found["active_units"]),
        _line(f"I(x; z), {limit}", information),
        _line("KL(q(z), p(z))", found["aggregate_gap"]),
    ]
    if "inference_gap" in found:
        gap = found["inference_gap"]
        rows = f"{gap['num_points']} rows"
        result.append(_line(f"approximation gap, {rows}", gap["approximation"]))
        result.append(_line(f"amortisation gap, {rows}", gap["amortization"]))
    if "scale" in found:
        names = ("smallest", "median", "largest")
        result += [Line(f"scale of p(x|z), {name}", found["scale"][name]) for name in names]
    return result


def _trend(found: dict[str, Any]) -> list[Line]:
    return [_line(f"IWAE, K = {k}, {numbers['num_points']} rows", numbers) for k, numbers in found.items()]


def _annealed(found: dict[str, Any]) -> list[Line]:
    annealed, weighted, gap = found["annealed"], found["importance"], found["simulated_gap"]
    rows = f"{annealed['num_points']} rows"
    return [
        _line(f"AIS, {rows}", annealed),
        _line(f"importance sampling, K = {weighted['num_samples']}, {rows}", weighted),
        _line("  difference", found["difference"]),
        _line(f"upper - lower bound by AIS, {gap['num_points']} simulated rows", gap),
        Line("acceptance of HMC in AIS", found["acceptance"]),
    ]


def _posterior(found: dict[str, Any]) -> list[Line]:
    rows = f"{found['num_points']} rows"
    return [
        Line(f"R-hat of p(z|x) by HMC, worst of {rows}", found["r_hat_max"]),
        Line(f"ess of p(z|x) by HMC, least of {rows}", found["ess_min"]),
        Line("E[z|x] of q beside HMC, in standard deviations", found["mean_distance"]),
    ]


def _two_sample(found: dict[str, Any]) -> list[Line]:
    result = []
    for name, score in found.items():
        details = score["details"]
        label = name.replace("_", " ")
        if "p_value" in details:
            label += f" (p = {details['p_value']:.3g})"
        elif "baseline" in details:
            label += f" (data beside data: {details['baseline']:.3g})"
        result.append(Line(label, score["value"], sampling_stderr=score["stderr"]))
    return result
