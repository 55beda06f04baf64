"""Gradients along the path of z alone, shared by the objectives that leave out the score of q."""

import torch
from torch import Tensor

from vaekit.bounds import Draw


def with_pathwise_gradient(value: Tensor, z: Tensor, draws: Draw, path: Tensor, generative: Tensor) -> Tensor:
    r"""`value` with another gradient: \( \sum_k a_k \frac{\partial \log w_k}{\partial z_k} \nabla z_k + b_k \nabla \log
    p(x, z_k) \).

    The derivative of log w with respect to z is taken at a leaf, so that nothing needs to be known of the model; the
    surrogate \( g_k \cdot z_k \) with g held fixed then carries it to the parameters of q.

    Args:
        value: the bound, shape (B,); only its numbers are used.
        z: the draws with their gradients, shape (K, B, *Z).
        draws: the log-densities at a copy of z, see `bounds.draw_at_leaf`.
        path: the factors a, shape (K, B), without gradients.
        generative: the factors b, shape (K, B), without gradients.

    Returns:
        Shape (B,).
    """
    if not draws.log_weights.requires_grad or not torch.is_grad_enabled():
        return value.detach()
    (slope,) = torch.autograd.grad(draws.log_weights.sum(), draws.z, retain_graph=True)
    moved = (slope * z).reshape(*path.shape, -1).sum(-1)
    surrogate = (path * moved + generative * (draws.log_likelihood + draws.log_prior)).sum(0)
    return value.detach() + (surrogate - surrogate.detach())
