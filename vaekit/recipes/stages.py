"""What is trained before the whole: the first layer of a model of two, on the same rows."""

import dataclasses
from dataclasses import dataclass

from vaekit.models import VAE, StackedVAE
from vaekit.models.base import GenerativeModel
from vaekit.models.view import View
from vaekit.objectives import ELBO, Objective
from vaekit.training import History, Trainer


@dataclass(frozen=True)
class Stage:
    """A part of a model that is trained first, and stays as it is while the rest is trained.

    Attributes:
        model: the part; a model of x of its own.
        objective: its objective.
        trainer: its trainer.
    """

    model: VAE
    objective: Objective
    trainer: Trainer

    def train(self, seen: View, held_out: View) -> History:
        """Train the part on rows as the whole has met them, without their contexts, and freeze it."""
        view = View.of(self.model, seen.rows, where="train", weight=seen.weight)
        history = self.trainer.fit(
            self.model, self.objective, view, view.beside(held_out.rows, "valid", held_out.weight)
        )
        self.freeze()
        return history

    def freeze(self, frozen: bool = True) -> None:
        """Keep the part as it is, or let it go."""
        self.model.requires_grad_(not frozen)


def first_stage(model: GenerativeModel, trainer: Trainer) -> Stage | None:
    """The stage before the whole of a model, by the trainer of the whole; None for models that have none."""
    if not isinstance(model, StackedVAE):
        return None
    return Stage(model.first, ELBO(), dataclasses.replace(trainer, keep="best"))
