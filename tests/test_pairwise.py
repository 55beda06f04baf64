"""All pairs of (posterior, prior, likelihood, objective): those that make sense work, the others say why not.

The members come from the tables in `components.py`; which of them can meet is read off their distributions (where z
lives) and off what an objective needs. A new row is crossed with all others by itself.
"""

from itertools import product

import pytest
import torch
from components import LACKS, LIKELIHOODS, OBJECTIVES, POSTERIORS, PRIORS, abilities, needs
from pairs import covering, pairs_of

import vaekit as vk
from vaekit import engine, networks
from vaekit.distributions import element_support
from vaekit.errors import VaekitError

SIZE, DATA, ROWS = 3, 3, 12
TABLES = (POSTERIORS, PRIORS, LIKELIHOODS, OBJECTIVES)


def values(table):
    """One name for each row of a table: Normal, Normal/1, ..."""
    return {f"{name}/{i}" if i else name: make for name, rows in table.items() for i, make in enumerate(rows)}


POSTERIOR, PRIOR, LIKELIHOOD, OBJECTIVE = (values(table) for table in TABLES)


def q_of(name):
    """The posterior of some rows, at parameters that mean nothing."""
    with engine.seeded(0):
        head = POSTERIOR[name](SIZE)
        return head(0.1 * torch.randn(4, *head.param_shape))


def home(distribution):
    """Where draws live: the shape of an event and the kind of its support."""
    support = element_support(distribution)
    kind = "[0, 1]" if type(support).__name__ == "_OpenUnitInterval" else str(support)
    return tuple(distribution.event_shape), kind.replace("real_vector", "real").replace("RealVector", "Real")


def build(q, p, likelihood):
    head, prior, of_x = POSTERIOR[q](SIZE), PRIOR[p](SIZE), LIKELIHOOD[likelihood](DATA)
    return vk.VAE(
        encoder=vk.Conditional(networks.MLP(of_x.event_shape, (6,), "tanh"), head),
        decoder=vk.Conditional(networks.MLP(head.event_shape, (6,), "tanh"), of_x),
        prior=prior,
    )


def alone(table):
    """The names of members that work without knowing the model that they are part of."""
    return {name for name, make in table.items() if not hasattr(make(SIZE), "bind")}


def meetings():
    """What the posterior offers in each pair that can make a model."""
    free_q, free_p = alone(POSTERIOR), alone(PRIOR)
    qs, ps = {name: q_of(name) for name in free_q}, {name: PRIOR[name](SIZE)() for name in free_p}
    found = {}
    for q, p in product(POSTERIOR, PRIOR):
        if q in qs and p in ps and home(qs[q]) != home(ps[p]):
            continue
        try:
            with engine.seeded(0):
                model = build(q, p, "Bernoulli")
        except VaekitError:
            continue
        found[q, p] = abilities(model.posterior(torch.zeros(4, DATA)), model.prior())
    return found


MEET = meetings()
UNMET = {(*pair, o): needs(make()) - able for (pair, able), (o, make) in product(MEET.items(), OBJECTIVE.items())}


def member(name):
    return name.partition("/")[0]


def makes_sense(row):
    q, p, likelihood, o = row
    fits = p != "VampPrior/1" or LIKELIHOOD[likelihood](DATA).event_shape == (DATA,)  # its pseudo-inputs are such rows
    return fits and (q, p) in MEET and not UNMET[q, p, o]


def first_of_members(table):
    return [name for name in table if name == member(name)]


# Members are crossed in all pairs; the further rows of a member join a row of the design each.
DESIGN, IMPOSSIBLE = covering(
    [first_of_members(table) for table in (POSTERIOR, PRIOR, LIKELIHOOD, OBJECTIVE)], makes_sense
)


def with_all_variants(design):
    """The design with further rows of the members' tables put in place of their first ones, in turn."""
    axes, turn, varied = (POSTERIOR, PRIOR, LIKELIHOOD, OBJECTIVE), {}, []
    for row in design:
        new = list(row)
        for i, table in enumerate(axes):
            options = [name for name in table if member(name) == row[i]]
            count = turn.get((i, row[i]), 0)
            turn[i, row[i]] = count + 1
            candidate = [*new[:i], options[count % len(options)], *new[i + 1 :]]
            if makes_sense(tuple(candidate)):
                new = candidate
        varied.append(tuple(new))
    for i, table in enumerate(axes):  # rows that meet no first row of any member, such as balls of another curvature
        for name in sorted(set(table) - {row[i] for row in varied}):
            choices = [[name] if j == i else list(other) for j, other in enumerate(axes)]
            varied.append(next(filter(makes_sense, product(*choices)), (name,) * len(axes)))
    return varied


CASES = with_all_variants(DESIGN)
FAST = 250  # half a minute; the cases after them are slow tests


def drawn(model):
    with torch.no_grad():
        return model.likelihood(model.prior().sample(torch.Size((ROWS,)))).sample()


def log_p(model, x):
    generator = torch.Generator().manual_seed(3)
    return vk.evaluation.log_marginal(model, x, num_samples=3, generator=generator, compile="off").value


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id="-".join(row), marks=[pytest.mark.slow] * (i >= FAST)) for i, row in enumerate(CASES)],
)
def test_a_sensible_combination_trains_evaluates_and_is_saved(row, tmp_path):
    q, p, likelihood, objective = row
    with engine.seeded(1):
        model = build(q, p, likelihood)
        x = drawn(model)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    trainer = vk.Trainer(max_epochs=1, batch_size=ROWS, progress=False, compile="off", precision="float32")
    history = trainer.fit(model, OBJECTIVE[objective](), x)
    assert history["step"] == [1]
    still = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert not still, f"no gradient reached {still}"
    assert all(bool(value.isfinite().all()) for value in model.parameters())
    first = log_p(model, x)
    assert bool(first.isfinite().all())
    vk.save(model, tmp_path / "run")
    assert torch.equal(log_p(vk.load(tmp_path / "run"), x), first)


STRANGERS = sorted(set(product(POSTERIOR, PRIOR)) - set(MEET))


@pytest.mark.parametrize(("q", "p"), STRANGERS, ids="-".join)
def test_latents_of_two_kinds_are_refused(q, p):
    """The error names both parts: their z has another shape, or lives elsewhere."""
    with pytest.raises(VaekitError) as caught:
        build(q, p, "Bernoulli")
    assert member(q) in str(caught.value)
    assert member(p) in str(caught.value)


# One prior for each posterior and objective that do not fit: the first with which something is lacking.
REFUSED = list({(row[0], row[2]): row for row in sorted(UNMET, reverse=True) if UNMET[row]}.values())


@pytest.mark.parametrize("row", REFUSED, ids="-".join)
def test_an_objective_says_what_it_needs_of_the_posterior(row):
    q, p, o = row
    with engine.seeded(1):
        model, objective = build(q, p, "Bernoulli"), OBJECTIVE[o]()
        x = drawn(model)
        objective.build(model)
        objective.prepare(100)
        with pytest.raises(VaekitError, match="|".join(LACKS[need] for need in sorted(UNMET[row]))):
            objective(model, x)


def test_the_design_covers_every_pair_of_members():
    axes = [first_of_members(table) for table in (POSTERIOR, PRIOR, LIKELIHOOD, OBJECTIVE)]
    covered = set().union(*(pairs_of(tuple(map(member, row))) for row in CASES))
    wanted = {((i, a), (j, b)) for i in range(4) for j in range(i + 1, 4) for a in axes[i] for b in axes[j]}
    assert wanted - covered == set(IMPOSSIBLE)
    allowed_gaps = {(0, 1), (0, 3), (1, 3)}  # posterior and prior, and objectives with either; likelihoods meet all
    assert {(a[0], b[0]) for a, b in IMPOSSIBLE} <= allowed_gaps
    for (i, a), (j, b) in IMPOSSIBLE:
        if (i, j) == (0, 1):
            assert (a, b) not in MEET
        elif (i, j) == (0, 3):
            assert all(UNMET[a, p, b] for q, p in MEET if q == a)
        else:
            assert all(UNMET[q, a, b] for q, p in MEET if p == a)


def test_every_row_of_the_tables_is_tried():
    for i, table in enumerate((POSTERIOR, PRIOR, LIKELIHOOD, OBJECTIVE)):
        assert {row[i] for row in CASES} == set(table)


def test_rows_that_are_allowed_cover_all_pairs_that_can_be():
    axes = (["a", "b"], ["c", "d"], ["e", "f", "g"])
    rows, missing = covering(axes, lambda row: row[:2] != ("a", "c"))
    assert missing == [((0, "a"), (1, "c"))]
    assert all(row[:2] != ("a", "c") for row in rows)
    assert len(set().union(*map(pairs_of, rows))) == 4 - 1 + 6 + 6
    assert len(rows) < 9
    assert covering(axes, lambda row: True)[0] == covering(axes, lambda row: True)[0]
