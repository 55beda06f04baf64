"""What is settled on held-out rows once the best weights of a table's model are chosen."""

from typing import Any

import torch
from torch import Tensor, nn

from vaekit import bounds, engine
from vaekit.models.rows import given, slices
from vaekit.models.view import View
from vaekit.training import Callback
from vaekit.training.callbacks import Run
from vaekit.training.settings import VALID

_SAMPLES, _MOST_ROWS, _BLOCK = 20, 2000, 100


def _bound(model: Any, view: View, seed: int) -> Tensor:
    """The importance-weighted bound of each held-out row, with the same noise each time: shape (N,), float64."""
    found = []
    with torch.no_grad(), engine.evaluating(model), engine.seeded(engine.block_seed(seed, VALID)):
        for rows in slices(min(len(view), _MOST_ROWS), _BLOCK):
            batch = view.batch(rows)
            found.append(bounds.iwae(given(model, batch.context), batch.x, _SAMPLES).double())
    return torch.cat(found)


class KeepStart(Callback):
    """Goes back to the weights that training began with, unless it has gained on held-out rows, beyond chance.

    The gain of each row is the difference of two bounds with the same noise; their mean has to exceed its standard
    error.

    Args:
        model: the model before training, of which the weights are copied.
    """

    def __init__(self, model: nn.Module) -> None:
        self.weights = _copied(model)

    def on_weights_chosen(self, loop: Run) -> None:
        """Compare both."""
        if loop.valid is None or len(loop.valid) < 2:
            return
        chosen, now = _copied(loop.model), _bound(loop.model, loop.valid, loop.settings.seed)
        loop.model.load_state_dict(self.weights)
        gain = now - _bound(loop.model, loop.valid, loop.settings.seed)
        weight = torch.ones_like(gain) if loop.valid.weight is None else loop.valid.weight[: len(gain)].to(gain)
        share = weight / weight.sum().clamp(min=1e-300)
        mean = (share * gain).sum()
        error = (share * (gain - mean)).square().sum().sqrt()
        if not bool(mean < error):
            loop.model.load_state_dict(chosen)


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
