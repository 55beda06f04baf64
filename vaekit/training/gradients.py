"""Losses and their gradients: backward, compiled, of an adversary, and what happens where one is not finite."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.optim.optimizer import StateDict

from vaekit import engine
from vaekit.engine import world
from vaekit.errors import TrainingError
from vaekit.models.rows import Batch, given
from vaekit.objectives import Loss, Objective
from vaekit.training.together import Part, Together


def _loss(
    model: nn.Module, objective: Callable[..., Loss], x: Tensor, weight: Tensor | None, context: Tensor | None
) -> Loss:
    """What an objective, or its adversary, says of rows: under their context, by their weights, where there are any."""
    seen = given(model, context)
    return objective(seen, x) if weight is None else objective(seen, x, weight)


def norm_of(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together, by dot products: torch's norm takes several passes over each tensor.

    Not finite where a gradient is not, or where its square overflows, which would end in Adam's second moment.
    """
    flat = (gradient.reshape(-1) for gradient in gradients)
    return torch.stack([torch.dot(g, g) for g in flat]).sum().sqrt()


class Backward:
    """Computes the loss of a batch and leaves its gradient in the parameters.

    Args:
        model: the model.
        objective: the objective.
        parameters: those to be moved.
        compile: whether torch.compile takes the loss; autograd then runs the two compiled halves.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, parameters: list[nn.Parameter], compile: bool = False
    ) -> None:
        self.model, self.objective, self.parameters = model, objective, parameters
        self.loss = engine.compiled(_loss, compile)

    def __call__(self, batch: Batch, share: float = 1.0) -> tuple[Loss, Tensor | None]:
        """The loss on a batch; the gradient is that of its share. The norm of the gradient is left to the caller."""
        loss = self.loss(self.model, self.objective, batch.x, batch.weight, batch.context)
        for parameter in self.parameters:  # only now: the backward pass then finds their memory free
            parameter.grad = None
        with world.named_errors():
            (loss.value if share == 1 else loss.value * share).backward()
        return loss, None


def _hooks(parameter: nn.Parameter) -> bool:
    """Whether somebody waits for its gradient in the backward pass, or for the moment when it is there."""
    return bool(parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None))


class _Both(nn.Module):
    """Model and objective under one roof, so that the tensors of both have names."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, x: Tensor, weight: Tensor | None, context: Tensor | None) -> Loss:
        return _loss(self.model, self.objective, x, weight, context)


class OneGraph:
    """`Backward` as one compiled graph: the step of a small model then takes a fraction of the time.

    Autograd, hooks and modules cost a fixed time per step, several times that of the arithmetic where networks are
    small. The loss is a function of its parameters and buffers here, its gradient another function of the same, and
    both are compiled together with the norm. Buffers keep their values where loss or gradient is not finite. A model
    that torch cannot take as a whole (derivatives of its own, a rejection sampler) falls back to a compiled loss,
    since torch would run this form uncompiled and say nothing. On CUDA the graph is recorded and replayed as a whole,
    unless it changes buffers.

    Args:
        model: the model.
        objective: the objective.
        parameters: those to be moved.
        buffers: what a forward pass may change.
        calls_matter: whether the calls between kernels take a share of the step.
    """

    SPARED = 2e-3  # seconds of a step that do not depend on its arithmetic, and that one graph does without

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        parameters: list[nn.Parameter],
        buffers: list[Tensor],
        calls_matter: bool = False,
    ) -> None:
        both = _Both(model, objective)
        wanted, changing = {id(p) for p in parameters}, {id(b) for b in buffers}
        self.both = both
        self.parameters = {name: p for name, p in both.named_parameters() if id(p) in wanted}
        self.buffers = {name: b for name, b in both.named_buffers() if id(b) in changing}
        self.is_replayed = all(p.is_cuda for p in parameters)
        # Called from C++, a small graph takes three quarters of the time; a large one only compiles for longer.
        options = {"triton.cudagraphs": True} if self.is_replayed else {"cpp_wrapper": calls_matter}
        graph: Callable[..., tuple[Loss, list[Tensor], Tensor]] = self._compute
        self.graph = engine.compiled(graph, True, options, whole=True)
        self.otherwise: Backward | None = None

    @staticmethod
    def suits(parameters: list[nn.Parameter]) -> bool:
        """Whether gradients in the layout of plain tensors are what optimisers expect, and no hook waits for them."""
        return all(p.is_contiguous() and not _hooks(p) for p in parameters)

    def _loss(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], *rows: Tensor | None
    ) -> tuple[Tensor, tuple[dict[str, Tensor], dict[str, Tensor]]]:
        changed = {name: buffer.clone() for name, buffer in buffers.items()}
        loss = functional_call(self.both, (parameters, changed), rows)
        return loss.value, (loss.terms, changed)

    def _compute(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], *rows: Tensor | None
    ) -> tuple[Loss, list[Tensor], Tensor]:
        gradients, (value, (terms, changed)) = grad_and_value(self._loss, has_aux=True)(parameters, buffers, *rows)
        flat = [gradient.contiguous() for gradient in gradients.values()]
        norm = norm_of(flat)
        finite = torch.isfinite(value + norm)
        for name, buffer in buffers.items():
            buffer.copy_(torch.where(finite, changed[name], buffer))
        return Loss(value.detach(), {name: term.detach() for name, term in terms.items()}), flat, norm

    def __call__(self, batch: Batch, share: float = 1.0) -> tuple[Loss, Tensor | None]:
        """The loss on a batch, and the norm of the gradient; the parameters have the gradient of its share."""
        if self.otherwise is not None:
            return self.otherwise(batch, share)
        rows = batch.x, batch.weight, batch.context
        if self.is_replayed:
            torch.compiler.cudagraph_mark_step_begin()
        try:
            with torch.no_grad():  # the graph takes derivatives itself; nothing is to be recorded around it
                loss, gradients, norm = self.graph(self.parameters, self.buffers, *rows)
        except Exception:  # of the compiler; one of the model's own comes out of what takes the graph's place
            self.otherwise = Backward(self.both.model, self.both.objective, list(self.parameters.values()), True)
            return self.otherwise(batch, share)
        if share != 1:
            gradients = [gradient * share for gradient in gradients]
        for parameter, gradient in zip(self.parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        if self.is_replayed:  # the next replay writes into the same memory, and totals of an epoch are kept for longer
            loss = Loss(loss.value.clone(), {name: term.clone() for name, term in loss.terms.items()})
        return loss, norm


MAX_SKIPPED = 3
"""So many moves in a row that were not finite end training."""


class Guard:
    """Decides whether an update is made, and puts back what its forward pass changed where it is not.

    Args:
        buffers: what a forward pass may change, such as running statistics.

    Attributes:
        num_skipped: how many updates were left out.
        in_a_row: how many of them were the last ones.
    """

    def __init__(self, buffers: list[Tensor]) -> None:
        self.buffers = buffers
        self.num_skipped = self.in_a_row = 0

    def keep(self) -> list[Tensor]:
        """The buffers before the forward pass."""
        return [buffer.clone() for buffer in self.buffers]

    def passes(self, kept: list[Tensor], value: Tensor, why: Callable[[], str]) -> bool:
        """Whether `value`, shape (), is finite; elsewhere the kept buffers are put back, and the update is counted.

        Raises:
            TrainingError: with the words of `why`, after three updates in a row that were not finite.
        """
        if bool(torch.isfinite(value)):
            self.in_a_row = 0
            return True
        for buffer, before in zip(self.buffers, kept, strict=True):
            buffer.copy_(before)
        self.num_skipped += 1
        self.in_a_row += 1
        if self.in_a_row >= MAX_SKIPPED:
            raise TrainingError(why())
        return False


class Adversary:
    """Moves `objective.adversary_parameters()` by Adam; skips the move where the loss or its gradient is not finite.

    Args:
        objective: an objective, whose adversary has parameters.
        model: the model; only its buffers may change here.
        buffers: those of model and objective that a forward pass may change, put back where a move is skipped.
    """

    def __init__(self, objective: Objective, model: nn.Module, buffers: list[Tensor]) -> None:
        self.objective, self.model, self.guard = objective, model, Guard(buffers)
        self.parameters = list(objective.adversary_parameters())
        # The betas of Kim & Mnih (2018): an opponent that moves calls for a short memory.
        self.optimizer = engine.Adam(self.parameters, lr=objective.adversary_learning_rate, betas=(0.5, 0.9))

    @property
    def num_skipped(self) -> int:
        """How many moves were left out."""
        return self.guard.num_skipped

    def __call__(self, batch: Batch, part: Part | None = None) -> dict[str, Tensor]:
        """One step on a batch; returns the terms of the adversary's loss, none if the step was skipped.

        Args:
            batch: the rows of this process.
            part: which part of a batch they are, where processes train together.
        """
        kept = self.guard.keep()
        with nullcontext() if part is None else part.computing(), world.named_errors():
            loss = _loss(self.model, self.objective.adversary, batch.x, batch.weight, batch.context)
            scaled = loss.value if part is None else loss.value * part.share
            gradients = torch.autograd.grad(scaled, self.parameters, allow_unused=True)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        value = loss.value.detach()
        if part is not None:
            value = Together()(self.parameters, value, part.share, self.guard.buffers)
        squares = [p.grad.square().sum() for p in self.parameters if p.grad is not None]
        if not self.guard.passes(kept, value + torch.stack(squares).sum(), lambda: self._diagnosis(value)):
            self.optimizer.zero_grad()
            return {}
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.terms

    @staticmethod
    def _diagnosis(value: Tensor) -> str:
        return (
            f"{MAX_SKIPPED} steps of the adversary in a row were not finite (loss {float(value):g}). "
            "Lower the objective's adversary_learning_rate."
        )

    def state_dict(self) -> StateDict:
        """Optimiser and counts."""
        return {"optimizer": self.optimizer.state_dict(), "counts": (self.guard.num_skipped, self.guard.in_a_row)}

    def load_state_dict(self, state: StateDict) -> None:
        """Put back what `state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.guard.num_skipped, self.guard.in_a_row = state["counts"]
