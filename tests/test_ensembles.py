"""Ensembles: one latent-variable model of several, against mixtures of factor analyses and against its members."""

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch
from components import LIKELIHOODS
from torch.distributions import MultivariateNormal
from torch.distributions import Normal as TorchNormal

import vaekit as vk
from vaekit import cli, networks, posteriors, priors, queries, runs
from vaekit.distributions import Normal, NumberedMixture, Product
from vaekit.errors import ConfigError, ShapeError
from vaekit.estimators import VAEDetector, VAEImputer, VAETransformer
from vaekit.models import Ensemble
from vaekit.testing.distributions import check_draws

TINY = {"max_epochs": 2, "hidden": (8,), "compile": "off"}


def normals(*scales, batch=()):
    """Normal distributions, the m-th over m + 1 numbers."""
    sizes = range(1, len(scales) + 1)
    one = torch.ones(*batch, 1, dtype=torch.float64)
    return [
        Product(Normal(0 * one.expand(*batch, n), s * one.expand(*batch, n)), 1)
        for n, s in zip(sizes, scales, strict=True)
    ]


# --- The distribution of (m, z) ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(), (3,)])
def test_numbered_mixtures_are_distributions(batch):
    mixture = NumberedMixture(normals(1.0, 2.0, 0.5, batch=batch))
    check_draws(mixture, batch, (4,), torch.float64)
    value = torch.tensor([1.0, 0.3, -0.2, 0.0], dtype=torch.float64).expand(*batch, 4)
    expected = TorchNormal(0, 2).log_prob(value[..., 1:3]).sum(-1) - math.log(3)
    torch.testing.assert_close(mixture.log_prob(value), expected)
    torch.testing.assert_close(mixture.expand((2, *batch)).log_prob(value), expected.expand(2, *batch))
    assert (mixture.log_prob(value + 0.5) == -torch.inf).all()  # no such component
    assert (mixture.log_prob(value + 2) == -torch.inf).all()


@pytest.mark.parametrize("how", ["sample", "from_noise"])
def test_components_have_equal_shares_of_the_draws_and_each_draw_comes_from_all(how):
    mixture = NumberedMixture(normals(1.0, 2.0, 0.5, batch=(2000,)))
    noise = torch.randn(7, 2000, *mixture.noise_shape)
    z = mixture.sample((7,)) if how == "sample" else mixture.from_noise(noise)
    numbers = z[..., 0].long()
    counts = torch.nn.functional.one_hot(numbers, 3).sum(0)
    assert counts.min() == 2  # of 7 draws 2 or 3
    assert counts.max() == 3
    for each in numbers:
        shares = each.bincount(minlength=3) / 2000
        assert (shares - 1 / 3).abs().max() < 4 * math.sqrt(2 / 9 / 2000)
    for m, scale in enumerate((1.0, 2.0, 0.5)):
        drawn = z[numbers == m]
        assert (drawn[:, 2 + m :] == 0).all()
        assert drawn[:, 1 : 2 + m].std().item() == pytest.approx(scale, rel=0.05)


def test_components_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="one batch shape over vectors"):
        NumberedMixture([*normals(1.0), *normals(1.0, batch=(2,))])
    with pytest.raises(ShapeError, match="over vectors"):
        NumberedMixture([TorchNormal(0.0, 1.0)])


# --- Heads ------------------------------------------------------------------------------------------------------------


HEADS = [(name, i) for name, factories in LIKELIHOODS.items() for i in range(len(factories))]


@pytest.mark.parametrize(("name", "i"), HEADS)
def test_each_z_is_decoded_by_its_own_member(name, i):
    """Of any head: also with learned parameters of its own, which differ between members."""
    members = []
    for seed in range(2):
        with vk.engine.seeded(seed):
            head = LIKELIHOODS[name][i](4)
            encoder = vk.Conditional(networks.MLP(head.event_shape, (8,)), posteriors.DiagonalNormal(1 + seed))
            decoder = vk.Conditional(networks.MLP(1 + seed, (8,)), head)
            for parameter in head.parameters():
                parameter.data += 0.3 * torch.randn_like(parameter)
            members.append(vk.VAE(encoder, decoder, priors.StandardNormal(1 + seed)).double())
    if name in ("Group", "SelfMasked", "SequenceCategorical", "PixelCNN"):  # parameters of other shapes than an event
        with pytest.raises(ConfigError, match="parameters for each element"):
            Ensemble(members)
        return
    model = Ensemble(members)
    z = model.prior().sample((3, 20))
    found = model.likelihood(z)
    assert found.batch_shape == (3, 20)
    x = found.sample()
    log_prob = found.log_prob(x)
    for m, member in enumerate(members):
        chosen = z[..., 0] == m
        own = member.likelihood(z[chosen][:, 1 : 2 + m])
        torch.testing.assert_close(log_prob[chosen], own.log_prob(x[chosen]), rtol=1e-9, atol=1e-9)
    assert found.log_prob(x).requires_grad


# --- Closed forms -----------------------------------------------------------------------------------------------------


class Factors:
    """Two factor analyses with different means as members, each with its exact posterior for any holes, and numpy's."""

    def __init__(self):
        rng = np.random.default_rng(0)
        z = rng.normal(size=(200, 2))
        x = np.column_stack([z, z.sum(1), z[:, 0] - z[:, 1]]) + 0.5 * rng.normal(size=(200, 4))
        frame = pd.DataFrame(x, columns=list("abcd"))
        detector = VAEDetector(trim=0, max_epochs=1, learning_rate=1e-12, latent_dim=2, compile="off", random_state=0)
        first = copy.deepcopy(detector.fit(frame).run_.model).double()
        second = copy.deepcopy(first)
        second.decoder.network.linear.bias.data[:4] += 1.0
        second.encoder.network.network.loc += 1.0
        self.members, self.model = [first, second], Ensemble([first, second])

    def normals(self, observed):
        """p_m of some columns, in model space."""
        found = []
        for member in self.members:
            linear = member.decoder.network.linear
            scale = member.likelihood(torch.zeros(2, dtype=torch.float64)).parts[0].base.scale
            covariance = linear.weight[:4] @ linear.weight[:4].T + torch.diag(scale**2)
            found.append((linear.bias[:4].detach(), covariance.detach()))
        return [(MultivariateNormal(b[observed], c[observed][:, observed]), b, c) for b, c in found]

    def row(self, holes=()):
        x = torch.tensor([[0.4, -1.0, 0.2, 1.5]], dtype=torch.float64)
        x[:, list(holes)] = torch.nan
        return x


@pytest.fixture(scope="module")
def factors():
    return Factors()


@pytest.mark.parametrize("holes", [(), (1,), (0, 2)])
def test_log_p_is_that_of_the_mixture(factors, holes):
    """Every importance weight of a member is its p(x), and draws are shared out evenly: nothing is left to chance."""
    x, observed = factors.row(holes), [j for j in range(4) if j not in holes]
    y, log_det = factors.model.transform.with_log_det(x)
    terms = [normal.log_prob(y[0, observed]) for normal, _, _ in factors.normals(observed)]
    expected = torch.logsumexp(torch.stack(terms), 0) - math.log(2) + log_det[0]
    for key in (None, "content"):
        found = vk.evaluation.log_marginal(factors.model, x, num_samples=10, generator=torch.Generator(), key=key)
        assert found.value.item() == pytest.approx(expected.item(), abs=1e-6)
    alone = [vk.evaluation.log_marginal(m, x, num_samples=10, generator=torch.Generator()) for m in factors.members]
    assert torch.stack([each.value for each in alone]).logsumexp(0).item() - math.log(2) == pytest.approx(
        found.value.item(), abs=1e-6
    )
    # The error is that of independent draws: by the delta method sd(w) / mean(w) / sqrt(K).
    w = torch.stack(terms).exp().double()
    assert found.stderr.item() == pytest.approx((w.std(correction=0) / w.mean() / 10**0.5).item(), rel=0.1)


def test_fills_weigh_the_members_by_p_of_what_is_there(factors):
    x = factors.row((1,))
    observed = [0, 2, 3]
    y = factors.model.transform(x)
    found = factors.normals(observed)
    weight = torch.stack([normal.log_prob(y[0, observed]) for normal, _, _ in found]).softmax(0)
    means = [
        b[1] + c[1, observed] @ torch.linalg.solve(c[observed][:, observed], y[0, observed] - b[observed])
        for _, b, c in found
    ]
    y[0, 1] = weight @ torch.stack(means)
    expected = factors.model.transform.inverse(y)[0, 1].item()
    filled = queries.impute(factors.model, x, num_samples=20_000, generator=torch.Generator()).filled[0, 1].item()
    assert weight.max() < 0.999  # both count
    assert filled == pytest.approx(expected, abs=0.02)


def test_draws_choose_a_member_for_each_row(factors):
    drawn = factors.model.transform(factors.model.sample(6000, generator=torch.Generator()).double())
    (_, b, c), (_, b2, _) = factors.normals([0, 1, 2, 3])
    torch.testing.assert_close(drawn.mean(0), (b + b2) / 2, rtol=0, atol=0.08)
    expected = c + 0.25 * torch.ones(4, 4, dtype=torch.float64)  # the variance between two means one apart
    torch.testing.assert_close(drawn.T.cov(), expected, rtol=0, atol=0.15)


def test_an_ensemble_of_one_is_its_model(factors):
    one, x = Ensemble(factors.members[:1]), factors.row((3,))
    for num_samples in (1, 100):
        found = vk.evaluation.log_marginal(one, x, num_samples=num_samples, generator=torch.Generator())
        alone = vk.evaluation.log_marginal(factors.members[0], x, num_samples=num_samples, generator=torch.Generator())
        assert found.value.item() == pytest.approx(alone.value.item(), abs=1e-6)
    codes = one.encode(x)
    assert codes[0, 0] == 0
    torch.testing.assert_close(codes[:, 1:], factors.members[0].encode(x))
    torch.testing.assert_close(one.reconstruct(x), factors.members[0].reconstruct(x))


def test_members_that_do_not_fit_are_refused(factors):
    other = copy.deepcopy(factors.members[0])
    other.transform.transforms[0].scale *= 2
    plain = vk.presets.vae((4,), latent_dim=2, likelihood="normal")[0]
    vector = vk.presets.vae((3,), latent_dim=2, likelihood="normal")[0]
    laplace = vk.presets.vae((4,), latent_dim=2, likelihood="laplace")[0]
    for members, error, words in (
        ([], ConfigError, "at least one model"),
        ([factors.members[0], other], ConfigError, "the same transform"),
        ([plain, vector], ShapeError, "the same rows"),
        ([plain, laplace], ConfigError, "the same head"),
        ([torch.nn.Linear(2, 2)], ConfigError, "of class VAE"),
    ):
        with pytest.raises(error, match=words):
            Ensemble(members)


# --- Runs, the command line, estimators -------------------------------------------------------------------------------


def people(n=90, seed=0):
    rng = np.random.default_rng(seed)
    size = rng.normal(size=n)
    frame = pd.DataFrame({"size": size, "tail": rng.standard_t(2, n) + size, "town": rng.choice(["Bern", "Thun"], n)})
    frame["grade"] = np.clip((2 * size + rng.normal(size=n)).round(), -2, 2) + 3
    frame.loc[::7, "size"] = np.nan
    return frame


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run of one model and one of three, of the same file."""
    folder = tmp_path_factory.mktemp("ensembles")
    people().to_csv(folder / "t.csv", index=False)
    words = ["max_epochs=2", "hidden=8", "compile=off", "seed=5", "--quiet"]
    for name, more in (("one", []), ("three", ["num_models=3"])):
        assert cli.run(["fit", str(folder / "t.csv"), "-o", str(folder / name), *words, *more]) == 0
    return folder


def test_members_are_the_models_of_their_seeds(folders):
    one, run = runs.open(folders / "one"), runs.open(folders / "three")
    assert isinstance(run.model, Ensemble)
    seeds = [each.seed for each in run.settings.of_members()]
    assert seeds[0] == 5
    assert len(set(seeds)) == 3
    rows = one.rows(str(folders / "t.csv"))
    own = [one, *(runs.fit_rows(rows, {**TINY, "seed": seed}) for seed in seeds[1:])]
    for member, alone in zip(run.model.models, own, strict=True):
        for name, value in alone.model.state_dict().items():
            assert torch.equal(member.state_dict()[name], value), name
    assert run.config.metadata["settings"]["num_models"] == 3
    assert len(run.config.metadata["best_epochs"]) == 3
    assert "num_models" not in one.config.metadata["settings"]


def test_held_out_log_p_is_at_least_the_mean_of_the_members(folders):
    """Jensen's inequality, with the same draws in expectation."""
    run = runs.open(folders / "three")
    x = run.rows(people(60, seed=9))
    how = {"num_samples": 300, "generator": torch.Generator().manual_seed(0)}
    mixture, *members = (vk.evaluation.log_marginal(m, x, **how) for m in (run.model, *run.model.models))
    alone = torch.stack([member.value for member in members])
    assert mixture.mean > alone.mean() - 3 * mixture.mean_stderr
    expected = alone.logsumexp(0) - math.log(3)
    assert (mixture.value - expected).abs().mean() < 0.05


def test_ensembles_are_saved_and_loaded_bit_for_bit(folders, tmp_path):
    run, rows = runs.open(folders / "three"), people(20, seed=3)
    assert not [file for file in (folders / "three").iterdir() if file.suffix == ".pt"]
    run.in_memory().save(tmp_path / "copy")
    again = runs.open(tmp_path / "copy")
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == (
        folders / "three" / "model.safetensors"
    ).read_bytes()
    np.testing.assert_array_equal(again.score(rows, num_samples=10).values, run.score(rows, num_samples=10).values)
    assert vk.load(tmp_path / "copy").sample(3, generator=torch.Generator()).shape == (3, 4)


@pytest.mark.parametrize(
    "words",
    [
        ["score", "DATA", "-o", "s.csv", "--columns"],
        ["impute", "DATA", "-o", "i.csv"],
        ["impute", "DATA", "-o", "d.csv", "--draws", "2"],
        ["detect", "DATA", "-o", "f.csv"],
        ["sample", "-n", "5", "--given", "town=Bern", "-o", "g.csv"],
        ["encode", "DATA", "-o", "e.csv"],
        ["info"],
    ],
    ids=lambda words: " ".join(words[:1] + words[4:]),
)
def test_every_question_can_be_put_to_an_ensemble(folders, tmp_path, words, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    people(8, seed=4).to_csv("new.csv", index=False)
    told = ["new.csv" if word == "DATA" else word for word in words[1:]]
    assert cli.run([words[0], str(folders / "three"), *told]) == 0
    said = capsys.readouterr()
    if words[0] == "info":
        assert "Ensemble of 3 models" in said.out


def test_going_on_goes_on_with_each_member(folders, tmp_path):
    command = ["fit", str(folders / "t.csv"), "--from", str(folders / "three"), "-o", str(tmp_path / "r"), "--quiet"]
    assert cli.run([*command, "max_epochs=1", "learning_rate=1e-12"]) == 0
    first, second = runs.open(folders / "three").model, runs.open(tmp_path / "r").model
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=0, atol=1e-9)
    assert cli.run([*command, "num_models=2", "--overwrite"]) == 2


def test_estimators_take_ensembles():
    table = people(60)
    settings = {"max_epochs": 1, "hidden": 8, "latent_dim": 1, "compile": "off", "random_state": 0}
    detector = VAEDetector(**settings, num_models=2, trim=0).fit(table)
    assert isinstance(detector.run_.model, Ensemble)
    assert np.isfinite(detector.score_samples(table)).all()
    assert VAEImputer.from_fitted(detector).transform(table).isna().sum().sum() == 0
    assert VAEImputer.from_fitted(detector).num_models == 2
    assert VAETransformer.from_fitted(detector).transform(table).shape == (60, 2)  # of the first member: 0, z
    single = VAEDetector(**settings, num_models=1, trim=0).fit(table)
    default = VAEDetector(**settings, trim=0).fit(table)
    np.testing.assert_array_equal(single.score_samples(table), default.score_samples(table))
    with pytest.raises(ConfigError, match="num_models"):
        VAEDetector(**settings, num_models=0).fit(table)
