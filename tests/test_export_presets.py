"""Every preset is exported, or says in one line why a graph of it cannot be."""

import numpy as np
import pytest
import torch

import vaekit as vk
from vaekit import engine
from vaekit.bounds import log_likelihood_at, log_prob_of
from vaekit.export import graphs
from vaekit.export.noise import NoNoiseError
from vaekit.export.programs import BATCHES, ExportError, opened
from vaekit.export.subject import Subject
from vaekit.models import View
from vaekit.presets import available

SHAPE = (1, 8, 8)
WITHOUT_HIDDEN = ("conv-vae", "conv-mnist", "pixel-vae")
LEFT_OUT = {
    ("pixel-vae", "decoder"): "draws",
    ("pixel-vae", "sample"): "passes",
}
FAST = ("vae",)
"""Of those that are alike, or take long to trace, the others run with the slow tests."""


def preset(name):
    options = {} if name in WITHOUT_HIDDEN else {"hidden": (16,)}
    with engine.seeded(0):
        model, _ = available()[name](SHAPE, latent_dim=3, **options)
    return model.eval()


def tables():
    return [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in sorted(available())]


@pytest.mark.parametrize("name", tables())
def test_every_preset(name):
    model = preset(name)
    subject = Subject(model)
    made = {}
    for graph in ("encoder", "decoder", "score", "sample"):
        if (name, graph) in LEFT_OUT:
            with pytest.raises((ExportError, NoNoiseError), match=LEFT_OUT[name, graph]) as said:
                getattr(subject, graph)()
            assert "\n" not in str(said.value)
        else:
            made[graph] = getattr(subject, graph)()
            assert made[graph].difference < 1e-4
    _encodes_as_the_view(model, subject, made["encoder"])
    if "decoder" in made:
        _decodes_as_the_view(model, made["decoder"])
    _scores_as_torch(model, subject, made["score"])


def _encodes_as_the_view(model, subject, encoder):
    if len(encoder.inputs) > 1:  # a posterior that draws has noise of its own in torch
        return
    session = opened(encoder.onnx)
    for num in BATCHES:
        found = session.run(None, {"x": subject.rows[:num].numpy()})[0]
        np.testing.assert_allclose(found, model.encode(subject.rows[:num]), rtol=1e-4, atol=1e-4)


def _decodes_as_the_view(model, decoder):
    session = opened(decoder.onnx)
    for num in BATCHES:
        with torch.no_grad(), engine.seeded(num):
            z = model.prior().sample((num,))
        np.testing.assert_allclose(
            session.run(None, {"z": z.numpy()})[0], View.of(model).decode(z), rtol=1e-4, atol=1e-4
        )


def _scores_as_torch(model, subject, score):
    """log w in torch, at draws made of the same noise, with q and z taken apart from each other."""
    generator, session = torch.Generator().manual_seed(0), opened(score.onnx)
    makers = {"normal": torch.randn, "uniform": torch.rand}
    for num in BATCHES:
        rows = subject.rows[:num]
        fed = {"x": rows}
        for each in score.inputs[1:]:
            shape = [{"samples": 9, "batch": num}[axis] for axis in each.axes] + list(each.shape)
            fed[each.name] = makers[each.name.split("_")[0]](shape, generator=generator)
        drawn = [fed[each.name] for each in score.inputs[1:]]
        with torch.no_grad(), graphs.Given(drawn):
            q = model.posterior(rows)
            z = graphs.draws_of(q, 9)
            expected = log_likelihood_at(model, z, rows) + log_prob_of(model.prior(), z) - q.log_prob(z)
        found = session.run(None, {key: value.numpy() for key, value in fed.items()})[0]
        assert found.shape == (9, num)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_a_model_under_contexts_takes_them_as_an_input():
    with engine.seeded(0):
        model, _ = vk.presets.conditional_vae(SHAPE, latent_dim=2, hidden=(8,), levels=(3, 2))
    subject = Subject(model.eval())
    encoder = subject.encoder()
    assert [each.name for each in encoder.inputs] == ["x", "context"]
    context = torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 1.0]])
    found = opened(encoder.onnx).run(None, {"x": subject.rows[:3].numpy(), "context": context.numpy()})[0]
    np.testing.assert_allclose(found, model.given(context).encode(subject.rows[:3]), rtol=1e-4, atol=1e-5)
