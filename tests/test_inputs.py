"""Batches on their way into a model: what a transform is applied to, and how often."""

import pytest
import torch

import vaekit as vk
from vaekit.models import inputs
from vaekit.transforms import Binarize, Compose, Dequantize, Logit, Scale, Standardize, Transform

CPU = torch.device("cpu")
FIXED = {
    "none": None,
    "scale": Scale(0, 16),
    "standardize": Standardize(3),
    "logit": Compose([Scale(0, 16), Logit()]),
    "threshold": Compose([Scale(0, 16), Binarize("threshold")]),
    "fixed bits": Compose([Scale(0, 16), Binarize("fixed")]),
}
RANDOM = {"dequantize": Compose([Dequantize(17), Logit()]), "bits": Compose([Scale(0, 16), Binarize("fresh")])}


def model_with(transform):
    """Three columns, whatever they are."""
    model, _ = vk.presets.vae((3,), likelihood="normal")
    model.transform = transform
    return model


def table(num_rows=50, dtype=torch.uint8):
    """Integers in 0..16."""
    return torch.randint(0, 17, (num_rows, 3), generator=torch.Generator().manual_seed(0)).to(dtype)


class Counting(Scale):
    """Counts the rows that come by."""

    is_fixed = True
    num_rows = 0

    def forward(self, x):
        """Scale."""
        self.num_rows += len(x)
        return super().forward(x)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("jacobian", [True, False])
@pytest.mark.parametrize("name", [*FIXED, *RANDOM])
@pytest.mark.parametrize("limit", [0, 2**26])
def test_batches_are_those_of_to_model_space(name, jacobian, dtype, limit, monkeypatch):
    """The same bits and the same draws, whether all rows go through the transform at once or not."""
    monkeypatch.setattr(inputs, "_AT_ONCE_BYTES", limit)
    transform, x = {**FIXED, **RANDOM}[name], table(dtype=dtype)
    if name == "standardize":
        transform.fit(x)
    model = model_with(transform)
    indices = [slice(0, 20), torch.tensor([3, 49, 3]), slice(20, 50)]
    with vk.engine.seeded(1):
        expected = [inputs.to_model_space(model, x[rows], torch.float32) for rows in indices]
    with vk.engine.seeded(1):
        batches = list(inputs.in_model_space(model, x, indices, CPU, torch.float32, jacobian))
    for (y, log_det), (expected_y, expected_log_det) in zip(batches, expected, strict=True):
        assert torch.equal(y, expected_y)
        assert y.dtype == torch.float32
        assert torch.equal(log_det, expected_log_det if jacobian else torch.zeros(len(y)))


@pytest.mark.parametrize(("limit", "num_rows"), [(3 * 4 * 50, 1 + 50), (3 * 4 * 50 - 1, 1 + 40)])
def test_a_fixed_transform_is_applied_once_where_the_rows_are_few(limit, num_rows, monkeypatch):
    """Two epochs of one batch of 20 rows cost 50 rows, or 40 where 50 are too many to keep."""
    monkeypatch.setattr(inputs, "_AT_ONCE_BYTES", limit)
    transform = Counting(0, 16)
    list(inputs.in_model_space(model_with(transform), table(), [slice(0, 20)] * 2, CPU))
    assert transform.num_rows == num_rows


def test_many_rows_are_transformed_in_blocks():
    """More rows than one block, and a log-determinant for each."""
    x = table(10_000, torch.float32)
    (y, log_det), *_ = inputs.in_model_space(model_with(Scale(0, 16)), x, [slice(0, len(x))], CPU)
    assert torch.equal(y, x / 16)
    torch.testing.assert_close(log_det, torch.full((len(x),), -3 * torch.tensor(16.0).log()))


def test_a_transform_that_says_nothing_is_not_taken_for_fixed():
    """Somebody's own transform may draw."""

    class Noise(Transform):
        def forward(self, x):
            return x + torch.rand_like(x)

        def inverse(self, y):
            return y

        def log_abs_det_jacobian(self, x, y):
            return torch.zeros(len(x))

    first, second = inputs.in_model_space(model_with(Noise()), torch.zeros(5, 3), [slice(0, 5)] * 2, CPU)
    assert not torch.equal(first[0], second[0])
    assert not Compose([Scale(), Noise()]).is_fixed


@pytest.mark.parametrize("base", [Scale, Compose])
def test_a_class_with_a_way_of_its_own_does_not_inherit_that_it_is_fixed(base):
    """Unless it says so."""

    class Jitter(base):
        def forward(self, x):
            return super().forward(x) + torch.rand_like(x)

    class Kept(base):
        pass

    arguments = [] if base is Scale else [[Scale()]]
    assert not Jitter(*arguments).is_fixed
    assert Kept(*arguments).is_fixed


def test_gradients_are_on_between_batches():
    """The transform runs without them; what is done with a batch does not."""
    for name in ("scale", "bits"):
        for _ in inputs.in_model_space(model_with({**FIXED, **RANDOM}[name]), table(), [slice(0, 5)] * 2, CPU):
            assert torch.is_grad_enabled()
