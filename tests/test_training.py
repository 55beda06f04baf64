"""The trainer: exact resume, selection of weights, skipped steps, signals, E and M steps."""

import json
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

import vaekit as vk
from vaekit import bounds, engine, schedules
from vaekit.errors import ArtifactError, ConfigError, DataError, ShapeError, SupportError, TrainingError
from vaekit.objectives import ELBO, IWAE
from vaekit.training import Callback, CollapseWarning, Trainer
from vaekit.training.checkpoint import FILE_NAME

QUIET = {"progress": False, "device": "cpu"}


def rows(n=96, dims=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 2, generator=generator)
    return z @ torch.randn(2, dims, generator=generator) + 0.1 * torch.randn(n, dims, generator=generator)


def make(seed=0, conv=False, objective=None):
    with engine.seeded(seed):
        if conv:
            return vk.presets.conv_vae(
                (1, 8, 8), latent_dim=2, channels=(4, 4), likelihood="normal", objective=objective
            )
        return vk.presets.vae((6,), latent_dim=2, hidden=(16,), likelihood="normal", objective=objective)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class StopAt(Callback):
    """Ends training after some step, as a signal would."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, loop):
        if loop.step == self.step:
            loop.signal = "SIGINT"


def test_training_improves_the_bound_and_reports_every_term():
    model, objective = make()
    x = rows()
    before = bounds.elbo(model, x, 64).mean()
    history = Trainer(max_epochs=30, batch_size=16, learning_rate=1e-2, **QUIET).fit(model, objective, x, x[:32])
    after = bounds.elbo(model, x, 64).mean()
    assert after > before + 3
    assert len(history["train_elbo"]) == len(history["valid_elbo"]) == len(history["seconds"]) == 30
    for name in ("train_loss", "train_log_likelihood", "train_kl", "valid_log_likelihood", "valid_kl", "learning_rate"):
        assert all(math.isfinite(value) for value in history[name])
    first = history.records[0]
    assert first["train_elbo"] == pytest.approx(first["train_log_likelihood"] - first["train_kl"], abs=1e-6)
    assert first["train_loss"] == pytest.approx(-first["train_elbo"], abs=1e-6)


def test_history_is_a_data_frame_and_names_its_columns():
    pytest.importorskip("pyarrow")
    model, objective = make()
    history = Trainer(max_epochs=2, **QUIET).fit(model, objective, rows())
    table = history.to_frame(backend="pyarrow")
    assert table["epoch"].to_pylist() == [1, 2]
    with pytest.raises(KeyError, match="train_elbo"):
        history["train_elb"]


def test_two_runs_are_equal_and_leave_global_randomness_alone():
    results = []
    state = torch.get_rng_state()
    for _ in range(2):
        model, objective = make()
        Trainer(max_epochs=3, batch_size=16, seed=4, **QUIET).fit(model, objective, rows(), rows(32, seed=1))
        results.append(weights(model))
    assert same(*results)
    assert torch.equal(state, torch.get_rng_state())
    model, objective = make()
    Trainer(max_epochs=3, batch_size=16, seed=5, **QUIET).fit(model, objective, rows(), rows(32, seed=1))
    assert not same(results[0], weights(model))


@pytest.mark.parametrize("stop", [1, 6, 9, 17])
@pytest.mark.parametrize("conv", [False, True])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, stop, conv):
    x = torch.randn(90, 1, 8, 8, generator=torch.Generator().manual_seed(3)) if conv else rows(90)
    options = {"max_epochs": 4, "batch_size": 16, "max_grad_norm": 5.0, **QUIET}

    def cosine(optimizer):
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)

    model, objective = make(conv=conv, objective=ELBO(beta=schedules.Linear(0, 1, 10)))
    whole = Trainer(scheduler=cosine, **options).fit(model, objective, x[:70], x[70:], run=tmp_path / "whole")
    expected = weights(model)

    model, objective = make(conv=conv, objective=ELBO(beta=schedules.Linear(0, 1, 10)))
    with pytest.raises(KeyboardInterrupt):
        Trainer(scheduler=cosine, callbacks=[StopAt(stop)], **options).fit(
            model, objective, x[:70], x[70:], run=tmp_path / "cut"
        )
    model, objective = make(seed=99, conv=conv, objective=ELBO(beta=schedules.Linear(0, 1, 10)))
    history = Trainer(scheduler=cosine, **options).fit(
        model, objective, x[:70], x[70:], run=tmp_path / "cut", resume=True
    )
    assert same(expected, weights(model))
    assert history.best_epoch == whole.best_epoch
    for key in ("train_elbo", "valid_elbo", "learning_rate", "step", "train_beta"):
        assert history[key] == whole[key]
    lines = (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_resumed_compiled_run_ends_with_the_same_bits(tmp_path):
    x = rows(90)
    options = {"max_epochs": 3, "batch_size": 16, "compile": "on", **QUIET}
    model, objective = make()
    Trainer(**options).fit(model, objective, x[:70], x[70:], run=tmp_path / "whole")
    expected = weights(model)
    torch.compiler.reset()
    model, objective = make()
    with pytest.raises(KeyboardInterrupt):
        Trainer(callbacks=[StopAt(8)], **options).fit(model, objective, x[:70], x[70:], run=tmp_path / "cut")
    torch.compiler.reset()
    model, objective = make(seed=99)
    Trainer(**options).fit(model, objective, x[:70], x[70:], run=tmp_path / "cut", resume=True)
    assert same(expected, weights(model))


def test_resume_without_a_checkpoint_starts_from_the_beginning(tmp_path):
    x = rows()
    model, objective = make()
    Trainer(max_epochs=2, **QUIET).fit(model, objective, x)
    expected = weights(model)
    model, objective = make()
    Trainer(max_epochs=2, **QUIET).fit(model, objective, x, run=tmp_path / "new", resume=True)
    assert same(expected, weights(model))


def test_resume_refuses_other_settings_and_damaged_checkpoints(tmp_path):
    x = rows()
    model, objective = make()
    Trainer(max_epochs=2, checkpoint_every=1, **QUIET).fit(model, objective, x, run=tmp_path)
    with pytest.raises(ArtifactError, match="learning_rate=0.001, now it is 0.1"):
        Trainer(max_epochs=2, learning_rate=0.1, **QUIET).fit(model, objective, x, run=tmp_path, resume=True)
    path = tmp_path / FILE_NAME
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    with pytest.raises(ArtifactError, match="truncated or altered"):
        Trainer(max_epochs=2, **QUIET).fit(model, objective, x, run=tmp_path, resume=True)
    path.write_bytes(b"garbage")
    with pytest.raises(ArtifactError, match="no checkpoint of vaekit"):
        Trainer(max_epochs=2, **QUIET).fit(model, objective, x, run=tmp_path, resume=True)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_needs_no_gradients_from_its_caller(mode):
    x, ends = rows(), []
    for context in (nullcontext, mode):
        model, objective = make()
        with context():
            Trainer(max_epochs=1, **QUIET).fit(model, objective, x)
        ends.append(weights(model))
    assert same(*ends)


def test_training_within_autocast_is_refused():
    model, objective = make()
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ConfigError, match=r'precision="bf16"'):
        Trainer(max_epochs=1, **QUIET).fit(model, objective, rows())


def test_the_best_weights_come_back():
    """Validation data from elsewhere get worse while training goes on: the first weights are the best ones."""
    model, objective = make()
    kept = {}

    class Keep(Callback):
        def on_epoch_end(self, loop, record):
            kept[loop.epoch] = weights(loop.model)

    history = Trainer(max_epochs=12, batch_size=8, learning_rate=3e-2, callbacks=[Keep()], **QUIET).fit(
        model, objective, rows(64), 4 + rows(32, seed=9)
    )
    best = 1 + int(np.argmax(history["valid_elbo"]))
    assert history.best_epoch == best < 12
    assert same(weights(model), kept[best])
    assert not model.training


def test_selection_uses_the_bound_at_beta_one():
    """beta = 100 makes another objective; the recorded validation bound is the ELBO all the same."""
    model, objective = make(objective=ELBO(beta=100.0))
    x = rows()
    history = Trainer(max_epochs=1, **QUIET).fit(model, objective, x, x)
    got = bounds.elbo(model, x, 400).mean()
    assert history["valid_elbo"][0] == pytest.approx(got.item(), abs=0.3)


def test_patience_ends_training():
    model, objective = make()
    history = Trainer(max_epochs=200, batch_size=8, learning_rate=3e-2, patience=3, **QUIET).fit(
        model, objective, rows(64), 4 + rows(32, seed=9)
    )
    assert history.stopped_early
    assert len(history) == history.best_epoch + 3


def test_without_validation_the_last_weights_stay():
    model, objective = make()
    seen = []

    class Last(Callback):
        def on_fit_end(self, loop):
            seen.append(weights(loop.model))

    Trainer(max_epochs=3, callbacks=[Last()], **QUIET).fit(model, objective, rows())
    assert same(seen[0], weights(model))


class Poison(nn.Module):
    """A network whose output is NaN at some calls in training mode; batch norm in front has buffers to restore."""

    def __init__(self, calls):
        super().__init__()
        self.in_shape, self.out_shape = (6,), (6,)
        self.norm, self.calls, self.count = nn.BatchNorm1d(6), calls, 0

    def forward(self, x):
        h = self.norm(x)
        if self.training:
            self.count += 1
            if self.count in self.calls:
                return h * torch.nan
        return h


def poisoned(calls):
    with engine.seeded(0):
        return vk.VAE(
            vk.Conditional(Poison(calls), vk.posteriors.DiagonalNormal(2)),
            vk.Conditional(vk.networks.MLP(2, (8,)), vk.likelihoods.Normal(6)),
            vk.priors.StandardNormal(2),
        )


def test_a_step_that_is_not_finite_is_skipped_and_counted():
    model = poisoned({2})
    states = []

    class Watch(Callback):
        def on_step_end(self, loop):
            moments = {k: v["exp_avg"].clone() for k, v in loop.stepper.optimizer.state_dict()["state"].items()}
            states.append((weights(loop.model), moments, int(loop.objective.step)))

    history = Trainer(max_epochs=1, batch_size=32, callbacks=[Watch()], **QUIET).fit(model, ELBO(), rows(96))
    assert history["skipped"] == [1]
    assert same(states[0][0], states[1][0]), "weights and buffers are those before the step"
    assert all(torch.equal(states[0][1][k], states[1][1][k]) for k in states[0][1])
    assert not same(states[1][0], states[2][0])
    assert [state[2] for state in states] == [1, 1, 2]
    assert math.isfinite(history["train_elbo"][0])


def test_three_bad_steps_in_a_row_stop_with_a_cause_and_keep_the_best_weights():
    model = poisoned({8, 9, 10})
    kept = {}

    class Keep(Callback):
        def on_epoch_end(self, loop, record):
            kept[loop.epoch] = weights(loop.model)

    x = rows(96)
    with pytest.raises(TrainingError, match=r"3 steps in a row.*[Ll]ower the learning rate"):
        Trainer(max_epochs=9, batch_size=32, callbacks=[Keep()], **QUIET).fit(model, ELBO(), x, x)
    assert list(kept) == [1, 2, 3]
    assert any(same(weights(model), best) for best in kept.values())


def test_em_steps_move_one_half_at_a_time():
    model, objective = make()
    halves = {"q": list(model.posterior_parameters()), "p": list(model.generative_parameters())}
    copies = {name: [p.clone() for p in half] for name, half in halves.items()}
    moved = []

    class Watch(Callback):
        def on_step_end(self, loop):
            moved.append(
                "".join(
                    n
                    for n, h in halves.items()
                    if any(not torch.equal(a, b) for a, b in zip(h, copies[n], strict=True))
                )
            )
            for name, half in halves.items():
                copies[name] = [p.detach().clone() for p in half]

    Trainer(max_epochs=1, batch_size=16, em_steps=(2, 1), callbacks=[Watch()], **QUIET).fit(model, objective, rows(96))
    assert moved == ["q", "q", "p"] * 2


def test_gradient_clipping_bounds_the_update():
    moves = []
    for limit in (None, 1e-3):
        model, objective = make()
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        Trainer(
            max_epochs=1, batch_size=96, learning_rate=1.0, optimizer=torch.optim.SGD, max_grad_norm=limit, **QUIET
        ).fit(model, objective, rows(96))
        after = torch.cat([p.detach().flatten() for p in model.parameters()])
        moves.append((after - before).norm().item())
    assert moves[1] == pytest.approx(1e-3, rel=1e-3)
    assert moves[0] > 1e-2


def test_any_optimizer_and_schedule(tmp_path):
    model, objective = make()
    history = Trainer(
        max_epochs=3,
        learning_rate=0.1,
        optimizer=torch.optim.RMSprop,
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5),
        **QUIET,
    ).fit(model, objective, rows())
    assert history["learning_rate"] == pytest.approx([0.1, 0.05, 0.025])


def test_uint8_data_stay_uint8_and_units_are_those_of_the_data():
    """log p of 8-bit data through Dequantize is a bound on a mass: it contains the Jacobian -D log 256."""
    x = torch.randint(0, 256, (64, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seen = []

    class Spy(vk.transforms.Dequantize):
        def forward(self, x):
            seen.append(x.shape)
            return super().forward(x)

    with engine.seeded(0):
        model, objective = vk.presets.vae((6,), latent_dim=2, hidden=(8,), likelihood="normal", transform=Spy(256))
    history = Trainer(max_epochs=1, batch_size=16, **QUIET).fit(model, objective, x, x)
    inner = bounds.elbo(model, (x.float() + 0.5) / 256, 50).mean()
    assert history["valid_elbo"][0] == pytest.approx(inner.item() - 6 * math.log(256), abs=0.5)
    assert (16, 6) in seen


@pytest.mark.parametrize("kind", ["array", "tensor", "tensor dataset", "dataset", "vaekit"])
def test_takes_arrays_tensors_and_data_sets(kind):
    x = rows(40)

    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return len(x)

        def __getitem__(self, index):
            return x[index], 0

    data = {
        "array": x.numpy(),
        "tensor": x,
        "tensor dataset": torch.utils.data.TensorDataset(x),
        "dataset": Pairs(),
        "vaekit": vk.data.Dataset(x.numpy()),
    }[kind]
    model, objective = make()
    Trainer(max_epochs=1, **QUIET).fit(model, objective, data)
    reference, objective = make()
    Trainer(max_epochs=1, **QUIET).fit(reference, objective, x)
    assert same(weights(model), weights(reference))


def test_any_number_of_rows_from_two_on_works():
    for n in (2, 3, 17):
        model, objective = make(conv=True)
        history = Trainer(max_epochs=1, batch_size=16, **QUIET).fit(model, objective, torch.randn(n, 1, 8, 8))
        assert math.isfinite(history["train_elbo"][0])


def test_iwae_selects_by_its_own_bound():
    model, objective = make(objective=IWAE(5))
    history = Trainer(max_epochs=4, **QUIET).fit(model, objective, rows(), rows(32, seed=1))
    assert history.best_epoch == 1 + int(np.argmax(history["valid_iwae"]))
    assert all(tight >= loose for tight, loose in zip(history["valid_iwae"], history["valid_elbo"], strict=True))


def test_bad_input_is_refused_before_training(tmp_path):
    model, objective = make()
    trainer = Trainer(max_epochs=1, **QUIET)
    with pytest.raises(ShapeError, match=r"expected train of shape \(N, 6\); got \(4, 5\)"):
        trainer.fit(model, objective, torch.zeros(4, 5))
    with pytest.raises(DataError, match="train has 1 rows"):
        trainer.fit(model, objective, torch.zeros(1, 6))
    with pytest.raises(DataError, match="train has 0 rows"):
        trainer.fit(model, objective, torch.zeros(0, 6))
    bad = rows()
    bad[3, 2] = torch.nan
    with pytest.raises(DataError, match=r"1 values that are NaN or infinite, the first at \(3, 2\)"):
        trainer.fit(model, objective, bad)
    with pytest.raises(DataError, match="valid has 1 values"):
        trainer.fit(model, objective, rows(), bad)
    many = torch.zeros(5000, 6)
    many[[10, 4500], 1] = torch.inf  # rows are looked at in blocks
    with pytest.raises(DataError, match=r"at least 1 values that are NaN or infinite, the first at \(10, 1\)"):
        trainer.fit(model, objective, many)
    for name, example in {"optimizer": "torch.optim.AdamW", "scheduler": "function"}.items():
        with pytest.raises(ConfigError, match=f"{name} makes one, such as .*{example}.*; got 'adamx'"):
            Trainer(**{name: "adamx"})
    with pytest.raises(DataError, match="complex64"):
        trainer.fit(model, objective, torch.zeros(4, 6, dtype=torch.complex64))
    with pytest.raises(DataError, match="expected numbers"):
        trainer.fit(model, objective, np.array([["a"] * 6] * 4))
    bits, objective = vk.presets.vae((6,), latent_dim=2)
    with pytest.raises(SupportError, match=r"Bernoulli expects train in \{0, 1\}.*Binarise"):
        trainer.fit(bits, objective, torch.rand(8, 6))
    with pytest.raises(ConfigError, match="patience"):
        Trainer(patience=3, **QUIET).fit(*make(), rows())


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0},
        {"patience": 0},
        {"precision": "fp8"},
        {"compile": "x"},
    ],
)
def test_bad_settings_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        Trainer(**options)


def test_a_full_disk_costs_the_checkpoint_but_not_the_run(tmp_path, monkeypatch):
    from vaekit.training import checkpoint

    x, (model, objective) = rows(), make()
    Trainer(max_epochs=1, checkpoint_every=1, **QUIET).fit(model, objective, x, run=tmp_path)
    kept = (tmp_path / FILE_NAME).read_bytes()

    def full(path, content):
        raise ArtifactError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(checkpoint, "write_atomically", full)
    with pytest.warns(UserWarning, match="No space left.*Training goes on"):
        history = Trainer(max_epochs=2, checkpoint_every=1, **QUIET).fit(model, objective, x, run=tmp_path)
    assert len(history) == 2
    assert (tmp_path / FILE_NAME).read_bytes() == kept


def test_at_a_prompt_an_interrupted_fit_returns_with_the_best_weights(monkeypatch):
    monkeypatch.setattr(engine, "in_notebook", lambda: True)
    model, objective = make()
    kept = {}

    class Keep(Callback):
        def on_epoch_end(self, loop, record):
            kept[loop.epoch] = weights(loop.model)

    history = Trainer(max_epochs=5, batch_size=16, callbacks=[Keep(), StopAt(9)], **QUIET).fit(
        model, objective, rows(), rows(32, seed=1)
    )
    assert history.interrupted == "SIGINT"
    assert len(history) == 1
    assert same(weights(model), kept[1])


def test_a_real_full_disk(tmp_path):
    """The checkpoint does not fit any more: the run goes on, and the file on disk is whole."""
    import resource

    x, (model, objective) = rows(), make()
    Trainer(max_epochs=1, checkpoint_every=1, **QUIET).fit(model, objective, x, run=tmp_path)
    before = (tmp_path / FILE_NAME).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.warns(UserWarning, match="Training goes on; the last checkpoint stays"):
            history = Trainer(max_epochs=3, checkpoint_every=1, **QUIET).fit(model, objective, x, run=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(history) == 3
    assert (tmp_path / FILE_NAME).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {FILE_NAME, "metrics.jsonl"}


def test_a_collapse_is_warned_of_once_and_training_stays_as_it_is():
    """beta = 100 switches the code off; the callback says so and draws nothing from the trainer's stream."""
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    fitted = []
    for watched in (False, True):
        with vk.engine.seeded(0):
            model, _ = vk.presets.vae((6,), latent_dim=3, hidden=(8,), likelihood="normal")
        watch = CollapseWarning(every=2, patience=3)
        trainer = vk.Trainer(max_epochs=20, learning_rate=0.01, progress=False, callbacks=[watch] if watched else [])
        with pytest.warns(UserWarning, match="posterior collapse: . of 3 units") if watched else nullcontext() as seen:
            trainer.fit(model, vk.objectives.ELBO(beta=100.0), x, x[:50])
        fitted.append(model.state_dict())
    assert len(seen) == 1
    assert len(watch.active_units) == 10
    assert watch.active_units[-1] == 0
    assert all(torch.equal(fitted[0][name], fitted[1][name]) for name in fitted[0])


def test_a_code_that_carries_something_is_not_warned_of():
    z = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    x = 3 * z @ torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    with vk.engine.seeded(0):
        model, objective = vk.presets.vae((6,), latent_dim=2, hidden=(16,), likelihood="normal")
    watch = CollapseWarning(every=5, patience=1)
    vk.Trainer(max_epochs=40, batch_size=50, learning_rate=3e-3, progress=False, callbacks=[watch]).fit(
        model, objective, x
    )
    assert watch.active_units[-1] == 2


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_weights_that_are_kept_are_the_best_or_the_last(keep):
    """Without the KL the bound, which counts it, falls again after some epochs."""
    seen = []

    class Notes(Callback):
        def on_epoch_end(self, loop, record):
            seen.append([p.detach().clone() for p in loop.model.parameters()])

    with vk.engine.seeded(0):
        model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(4,), likelihood="normal")
        x = torch.randn(60, 3)
    settings = {"max_epochs": 30, "batch_size": 10, "learning_rate": 0.03, "compile": "off", "progress": False}
    trainer = Trainer(**settings, keep=keep, callbacks=[Notes()])
    history = trainer.fit(model, vk.objectives.ELBO(beta=0.0), x[:40], x[40:])
    assert history.best_epoch < 30
    kept = seen[history.best_epoch - 1] if keep == "best" else seen[-1]
    assert all(torch.equal(a, b) for a, b in zip(kept, model.parameters(), strict=True))


def test_what_is_kept_is_one_of_two():
    with pytest.raises(ConfigError, match="keep is one of best, last; got 'first'"):
        Trainer(keep="first")
