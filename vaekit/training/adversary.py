"""The update of an objective's adversary: an optimiser of its own, after the main one, on the same batch."""

from typing import Any

import torch
from torch import Tensor

from vaekit import engine
from vaekit.models.rows import Batch
from vaekit.objectives import Objective
from vaekit.training.gradients import given
from vaekit.training.guard import MAX_SKIPPED, Guard


class Adversary:
    """Moves `objective.adversary_parameters()` by Adam; skips the move where the loss or its gradient is not finite.

    Args:
        objective: an objective, whose adversary has parameters.
        model: the model; only its buffers may change here.
        buffers: those of model and objective that a forward pass may change, put back where a move is skipped.
    """

    def __init__(self, objective: Objective, model: Any, buffers: list[Tensor]) -> None:
        self.objective, self.model, self.guard = objective, model, Guard(buffers)
        self.parameters = list(objective.adversary_parameters())
        # The betas of Kim & Mnih (2018): an opponent that moves calls for a short memory.
        self.optimizer = engine.Adam(self.parameters, lr=objective.adversary_learning_rate, betas=(0.5, 0.9))

    @property
    def num_skipped(self) -> int:
        """How many moves were left out."""
        return self.guard.num_skipped

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """One step on a batch; returns the terms of the adversary's loss, none if the step was skipped."""
        kept = self.guard.keep()
        model, weighted = given(self.model, batch.context), () if batch.weight is None else (batch.weight,)
        loss = self.objective.adversary(model, batch.x, *weighted)
        gradients = torch.autograd.grad(loss.value, self.parameters, allow_unused=True)
        squares = [g.square().sum() for g in gradients if g is not None]
        value = loss.value.detach()
        if not self.guard.passes(kept, value + torch.stack(squares).sum(), lambda: self._diagnosis(value)):
            return {}
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.terms

    @staticmethod
    def _diagnosis(value: Tensor) -> str:
        return (
            f"{MAX_SKIPPED} steps of the adversary in a row were not finite (loss {float(value):g}). "
            "Lower the objective's adversary_learning_rate."
        )

    def state_dict(self) -> dict[str, Any]:
        """Optimiser and counts."""
        return {"optimizer": self.optimizer.state_dict(), "counts": (self.guard.num_skipped, self.guard.in_a_row)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.guard.num_skipped, self.guard.in_a_row = state["counts"]
