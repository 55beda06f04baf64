"""Adam, as torch computes it, with less to do around its kernel."""

from collections.abc import Callable
from inspect import unwrap
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import optimizer
from torch.optim.optimizer import ParamsT, StateDict

# torch's step with its hooks; of the class itself torch wraps the method only once an optimiser of it exists.
_torch_step = torch.optim.Optimizer.profile_hook_step(unwrap(torch.optim.Adam.step))


def _by_torch(adam: torch.optim.Adam, closure: Callable[[], float] | None) -> float | None:
    result: float | None = _torch_step(adam, closure)
    return result


class _Lists(NamedTuple):
    """What the kernel takes, in the order of the parameters."""

    all_counts: Tensor
    parameters: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]
    counts: list[Tensor]


class Adam(torch.optim.Adam):
    """torch's fused Adam, which keeps the lists that torch's `step` puts together anew each time.

    The kernel, the state and its file format are torch's. Of a small model's update the search for parameters, groups
    and devices is the larger part: 0.5 ms beside 0.1 ms. Where a hook waits for a step, torch's own step is taken. It
    does not load torch's compiler either, which torch's own optimisers do so that graphs leave them out: that takes two
    seconds of the start of a program.

    References:
        Kingma & Ba, "Adam", 2015, https://arxiv.org/abs/1412.6980, algorithm 1.

    Args:
        parameters: what is moved.
        lr: step size.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.
        weight_decay: L2 penalty, added to the gradient.
    """

    def __init__(
        self,
        parameters: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)
        self._lists: _Lists | None = None

    state_dict = unwrap(torch.optim.Adam.state_dict)
    zero_grad = unwrap(torch.optim.Adam.zero_grad)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """More parameters, as torch's optimisers take them."""
        unwrap(torch.optim.Adam.add_param_group)(self, param_group)
        self._lists = None

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Put back what `state_dict` returned."""
        unwrap(torch.optim.Adam.load_state_dict)(self, state_dict)
        self._lists = None

    def _start(self) -> None:
        """Make the state, as torch's own first step does, where every parameter has a gradient."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        if not self.state and all(p.grad is not None for p in parameters):
            for p in parameters:
                count = torch.zeros((), dtype=torch.float32, device=p.device)
                moments = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
                self.state[p] = {"step": count, **moments}

    def _gathered(self) -> "_Lists | None":
        """All counts in one, parameters, moments and each count; None where there is more than one kind of them."""
        if len(self.param_groups) != 1 or len(self.state) != len(self.param_groups[0]["params"]):
            return None
        parameters = self.param_groups[0]["params"]
        if len({(p.device, p.dtype) for p in parameters}) != 1:
            return None
        states = [self.state[p] for p in parameters]
        counts = torch.stack([state["step"] for state in states])
        for state, count in zip(states, counts.unbind(), strict=True):
            state["step"] = count  # a view: one addition moves all
        first, second, each = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        return _Lists(counts, parameters, first, second, each)

    def _is_hooked(self) -> bool:
        """Whether somebody waits for a step of this optimiser, or of all."""
        waiting = (self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks)
        return any((*waiting, optimizer._global_optimizer_pre_hooks, optimizer._global_optimizer_post_hooks))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient, in whichever memory layout that is; hooks are called."""
        for group in self.param_groups:
            for p in group["params"]:  # the kernel takes elements in the order of memory
                if p.grad is not None and p.grad.stride() != p.stride():
                    p.grad = torch.empty_like(p).copy_(p.grad)
        if self._lists is None:
            self._start()
            self._lists = self._gathered()
        if self._lists is None or self._is_hooked():
            return _by_torch(self, closure)
        all_counts, parameters, first, second, counts = self._lists
        gradients = [p.grad for p in parameters if p.grad is not None]
        if closure is not None or len(gradients) < len(parameters):
            return _by_torch(self, closure)
        group = self.param_groups[0]
        all_counts.add_(1)
        torch._fused_adam_(
            parameters,
            gradients,
            first,
            second,
            [],
            counts,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
            grad_scale=None,
            found_inf=None,
        )
        return None

    step.hooked = True  # type: ignore[attr-defined]  # torch then leaves out its profiling around the step
