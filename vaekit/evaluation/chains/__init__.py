"""Chains that move on p(z|x): annealed importance sampling and Hamiltonian Monte Carlo."""
