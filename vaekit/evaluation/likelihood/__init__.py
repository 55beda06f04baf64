"""log p(x) and its bounds from importance weights: per row, between two models, and as K grows."""
