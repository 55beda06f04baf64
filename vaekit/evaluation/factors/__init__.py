"""Whether codes tell the factors of variation apart: scores of disentanglement."""
