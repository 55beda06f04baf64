"""One update: loss, gradient, the check that both are finite, and the optimiser's move."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.optimizer import StateDict

from vaekit import engine
from vaekit.engine import world
from vaekit.errors import ConfigError
from vaekit.models.base import GenerativeModel
from vaekit.models.checks import require, standardize
from vaekit.models.rows import Batch
from vaekit.models.view import View
from vaekit.objectives import Loss, Objective
from vaekit.training.gradients import MAX_SKIPPED, Adversary, Backward, Guard, OneGraph, norm_of
from vaekit.training.settings import TrainerSettings
from vaekit.training.together import Part, Together
from vaekit.traits import ModuleTraits, all_told

Gradients = Callable[..., tuple[Loss, Tensor | None]]
"""Of a batch, and the share of it that counts: its loss and the norm of the gradient, if that is known already."""

_LARGE = 1e3  # numbers in model space that explain why a step is not finite


class Step:
    """Takes a batch, moves the parameters; skips the move where the loss or its gradient is not finite.

    Args:
        settings: those of the trainer.
        view: the model, as it has met the training rows.
        objective: the objective.
        num_steps: updates to come at most, for `compile="auto"`.
        num_rows: rows of the batches that are compiled for; None takes `settings.batch_size`. An epoch's last batch has
            fewer: one step by a plain backward pass costs less than a graph of its own.
    """

    def __init__(
        self,
        settings: TrainerSettings,
        view: View,
        objective: Objective,
        num_steps: int = 0,
        num_rows: int | None = None,
    ) -> None:
        self.model = model = view.model
        self.objective, self.max_grad_norm = objective, settings.max_grad_norm
        apart = {id(p) for p in objective.adversary_parameters()}
        # A model that owns its objective's parameters, or shares some, must not move them twice.
        candidates = {id(p): p for module in (model, objective) for p in module.parameters()}
        self.parameters = [p for p in candidates.values() if p.requires_grad and id(p) not in apart]
        if not self.parameters:
            raise ConfigError("the model has no parameters that could be trained")
        self.optimizer = settings.make_optimizer(self.parameters)
        self.scheduler = settings.scheduler(self.optimizer) if settings.scheduler else None
        self.moves_each_step = settings.scheduler_moves == "step"
        self.phases = _phases(model, settings.em_steps)
        self.count = 0
        constants = set() if view.transform is None else {id(b) for b in view.transform.buffers()}
        # What a forward pass may change: running statistics and baselines, not constants and not the count of updates.
        buffers = [b for b in _saved_buffers(model, objective) if id(b) not in constants and b is not objective.step]
        self.guard = Guard(buffers)
        self.adversary = Adversary(objective, model, buffers) if apart else None
        parts = [part for module in (model, objective) for part in module.modules()]
        can_compile = all(part.can_compile for part in all_told(ModuleTraits, parts)) and not settings.row_noise
        if world.size() > 1:  # messages within a forward pass are not compiled
            can_compile = can_compile and not (objective.needs_whole_batch or engine.has_batch_norm(model))
        self.together = Together()
        self.num_rows = num_rows or settings.batch_size
        self.plain = Backward(model, objective, self.parameters)
        self.gradients = self._gradients(settings.compile if can_compile else "off", num_steps)

    def _gradients(self, compile: engine.Compile, num_steps: int) -> Gradients:
        """What computes the loss and its gradient: as it is, compiled, or compiled once it pays."""
        parts = (self.model, self.objective, self.parameters)
        if compile == "off":
            return self.plain
        # E and M steps take the norm of a part of the gradient, which a graph of all does not know.
        whole = engine.can_compile() and OneGraph.suits(self.parameters) and not self.phases

        def fast() -> Gradients:  # torch's compiler takes seconds to import: not before it is needed
            if not whole:
                return Backward(*parts, compile=True)
            return OneGraph(*parts, self.guard.buffers, engine.calls_matter(self.model, self.num_rows))

        if compile == "on":
            return fast()
        return engine.PayingCompilation(self.plain, num_steps, fast, OneGraph.SPARED if whole else 0.0)

    @property
    def num_skipped(self) -> int:
        """How many steps were left out."""
        return self.guard.num_skipped

    @property
    def learning_rate(self) -> float:
        """The learning rate of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def compiled_at(self) -> int | None:
        """The step after which `compile="auto"` was known to be faster compiled; None without."""
        return self.gradients.compiled_at if isinstance(self.gradients, engine.PayingCompilation) else None

    def __call__(self, batch: Batch, part: Part | None = None) -> Loss | None:
        """One step on a batch; returns the loss, or None if the step was skipped.

        A batch whose weights are all 0 says nothing: neither parameters nor schedules move.

        Args:
            batch: the rows of this process.
            part: which part of a batch they are, where processes train together: the loss returned is that of the
                whole batch, its terms are those of the part.
        """
        silent = batch.weight is not None and not bool(batch.weight.any()) if part is None else part.is_silent
        if silent:
            return None
        kept = self.guard.keep()
        gradients = self.gradients if len(batch) == self.num_rows else self.plain
        if part is None:
            loss, norm = gradients(batch)
        else:
            with part.computing():
                loss, norm = gradients(batch, part.share)
        self._freeze()
        if part is not None:
            value = self.together(self._moving, loss.value, part.share, self.guard.buffers)
            loss, norm = loss._replace(value=value), None
        self.count += 1
        if norm is None:
            norm = norm_of([p.grad for p in self.parameters if p.grad is not None])
        if not self.guard.passes(kept, loss.value.detach() + norm, lambda: self._diagnosis(loss, norm, batch)):
            for parameter in self.parameters:
                parameter.grad = None
            return None
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.max_grad_norm, norm)
        self.optimizer.step()
        if self.scheduler is not None and self.moves_each_step:
            self.scheduler.step()
        self.objective.advance()
        if self.adversary is not None:
            loss = loss._replace(terms={**loss.terms, **self.adversary(batch, part)})
        return loss

    @property
    def _frozen(self) -> list[nn.Parameter]:
        """The parameters that stay as they are in an E or M step."""
        return self.phases[self.count % len(self.phases)] if self.phases else []

    @property
    def _moving(self) -> list[nn.Parameter]:
        """The parameters that the step moves."""
        frozen = {id(parameter) for parameter in self._frozen}
        return [parameter for parameter in self.parameters if id(parameter) not in frozen]

    def _freeze(self) -> None:
        """In an E or M step, forget the gradient of the other half: the optimiser leaves such parameters alone."""
        for parameter in self._frozen:
            parameter.grad = None

    def _diagnosis(self, loss: Loss, norm: Tensor, batch: Batch) -> str:
        values = f"loss {float(loss.value.detach()):g}, gradient norm {float(norm):g}"
        start = f"{MAX_SKIPPED} steps in a row were not finite ({values}). "
        bad = [name for name, term in loss.terms.items() if not bool(torch.isfinite(term).all())]
        if not all(bool(torch.isfinite(p).all()) for p in self.parameters):
            return start + "The parameters themselves are not finite: the weights handed in are damaged."
        size, element = _largest(batch.x)
        if size > _LARGE:
            return start + (
                f"The model sees numbers up to {size:.3g} (element {element} of a row), and networks expect numbers "
                f"about 1. {standardize(batch.x.shape[1:])}; counts reach the encoder as logarithms "
                "(vaekit.networks.LogInput)."
            )
        if "kl" in bad:
            return start + (
                "The KL is: a scale of the posterior overflowed. Lower the learning rate, set max_grad_norm, or use "
                'DiagonalNormal(..., scale="softplus").'
            )
        if bad:
            return start + (
                f"Not finite: {', '.join(bad)}. The likelihood cannot explain the data at this point; standardise or "
                "scale the data, raise min_scale, or lower the learning rate."
            )
        return start + "The gradient overflowed. Lower the learning rate or set max_grad_norm."

    def end_epoch(self, selected: float | None) -> None:
        """Move the learning-rate schedule, unless each step does."""
        if self.moves_each_step:
            return
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            if selected is None:
                raise ConfigError("ReduceLROnPlateau needs validation data")
            self.scheduler.step(-selected)
        elif self.scheduler is not None:
            self.scheduler.step()

    def state_dict(self) -> StateDict:
        """Optimisers, schedule and counts."""
        scheduler = self.scheduler.state_dict() if self.scheduler else None
        counts = (self.count, self.guard.num_skipped, self.guard.in_a_row)
        adversary = self.adversary.state_dict() if self.adversary else None
        state = {"optimizer": self.optimizer.state_dict(), "scheduler": scheduler, "counts": counts}
        return {**state, "adversary": adversary}

    def load_state_dict(self, state: StateDict) -> None:
        """Put back what `state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        _lay_out_like_parameters(self.optimizer)
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.count, self.guard.num_skipped, self.guard.in_a_row = state["counts"]
        if self.adversary is not None:
            self.adversary.load_state_dict(state["adversary"])
        if isinstance(self.gradients, engine.PayingCompilation):
            self.gradients.num_calls -= self.count


def _largest(x: Tensor) -> tuple[float, int | tuple[int, ...]]:
    """The greatest absolute value of rows (B, *X), holes aside, and where in a row it stands."""
    size = x.detach().abs().nan_to_num(nan=0.0).amax(0)
    place = tuple(int(i) for i in torch.unravel_index(size.argmax(), size.shape))
    return float(size.max()), place[0] if len(place) == 1 else place


def _lay_out_like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Give the optimiser's moments the memory layout of their parameters, such as channels innermost.

    A file keeps no layout, and fused optimisers take elements in the order of memory, whichever that is.
    """
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                moments[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _saved_buffers(*modules: nn.Module) -> list[Tensor]:
    """Buffers that belong to the state of the modules."""
    parameters = {id(p) for module in modules for p in module.parameters()}
    states = (tensor for module in modules for tensor in module.state_dict(keep_vars=True).values())
    return [tensor for tensor in states if id(tensor) not in parameters]


def _phases(model: GenerativeModel, em_steps: tuple[int, int] | None) -> list[list[nn.Parameter]]:
    """For each step of a cycle of E and M steps, the parameters that stay as they are."""
    if em_steps is None:
        return []
    require(model, ("posterior_parameters", "generative_parameters"), "training by E and M steps in turn")
    num_e, num_m = em_steps
    if num_e < 1 or num_m < 1:
        raise ConfigError(f"em_steps are two counts of at least 1; got {em_steps}")
    for half, parameters in (("posterior", model.posterior_parameters()), ("rest", model.generative_parameters())):
        if not any(p.requires_grad for p in parameters):
            raise ConfigError(f"em_steps moves the posterior and the rest in turn; the {half} has nothing to train")
    frozen_e, frozen_m = list(model.generative_parameters()), list(model.posterior_parameters())
    return [frozen_e] * num_e + [frozen_m] * num_m
