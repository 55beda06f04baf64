"""What only a GPU can show; and, without one, the rules that the engine follows there."""

import pytest
import torch

import vaekit as vk
from vaekit import engine
from vaekit.engine import devices
from vaekit.engine.speed import threads
from vaekit.training.gradients import OneGraph

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
X = torch.bernoulli(torch.full((1000, 12), 0.3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize(("free", "stays"), [(24_000, True), (23_999, False)])
def test_rows_go_to_the_device_where_they_take_no_more_than_half_of_it(monkeypatch, free, stays):
    monkeypatch.setattr(devices, "free_device_memory", lambda device: free)
    device = torch.device("meta")  # 12,000 bytes of rows
    assert (engine.resident(X, device).device == device) is stays


def test_rows_stay_where_the_model_is_on_the_cpu_or_the_rows_on_disk():
    assert engine.resident(X, torch.device("cpu")) is X
    assert devices.free_device_memory(torch.device("cpu")) == 0
    stored = object()
    assert engine.resident(stored, torch.device("meta")) is stored


@pytest.mark.parametrize(("device", "flushed"), [("cpu", True), ("meta", False)])
def test_only_the_cpu_flushes_denormals(device, flushed):
    assert engine.run_flushing_denormals(threads.is_flushing, 1, torch.device(device)) is flushed


def _fit(compile):
    with engine.seeded(0):
        model, objective = vk.presets.vae((12,), latent_dim=2, hidden=(16,))
    settings = {"max_epochs": 20, "batch_size": 64, "precision": "float32", "progress": False}
    return vk.Trainer(device="cuda", compile=compile, **settings).fit(model, objective, X, X[:200]), model


@on_a_gpu
def test_training_is_the_same_with_and_without_recorded_graphs():
    (plain, _), (fast, model) = _fit("off"), _fit("on")
    assert engine.model_device(model).type == "cuda"
    assert abs(plain["valid_elbo"][-1] - fast["valid_elbo"][-1]) < 0.2
    repeated, again = _fit("off")
    assert repeated["valid_elbo"] == plain["valid_elbo"]
    estimate = vk.evaluation.log_marginal(again, X[:50], num_samples=100)
    assert torch.isfinite(estimate.value).all()


@on_a_gpu
def test_a_row_has_the_same_bits_on_every_device():
    from vaekit.transforms.noise import content_noise

    grey = torch.rand(100, 30)
    assert torch.equal(content_noise(grey.cuda(), 3).cpu(), content_noise(grey, 3))


@on_a_gpu
def test_a_graph_is_recorded_and_its_gradients_are_those_of_the_backward_pass():
    model, objective = vk.presets.vae((12,), latent_dim=2, hidden=(16,))
    model.cuda()
    objective.cuda()
    objective.kl = "analytic"
    parameters, x = list(model.parameters()), X[:64].float().cuda()
    compute = OneGraph(model, objective, parameters, [])
    means = []
    for _ in range(500):  # the draws differ between a compiled graph and autograd: means are compared
        compute(x)
        means.append([p.grad.clone() for p in parameters])
    assert compute.is_replayed
    assert compute.otherwise is None
    for index, parameter in enumerate(parameters):
        draws = torch.stack([gradients[index] for gradients in means])
        assert draws.var(0).sum() > 0, "every replay has noise of its own"
        plain = []
        for _ in range(500):
            parameter.grad = None
            objective(model, x).value.backward()
            plain.append(parameter.grad.clone())
        other = torch.stack(plain)
        error = ((draws.var(0) + other.var(0)) / 500).sqrt().clamp_min(1e-6)
        assert ((draws.mean(0) - other.mean(0)).abs() / error).max() < 6
