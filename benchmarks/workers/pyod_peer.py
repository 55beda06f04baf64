"""pyod's VAE at the same work: its own training loop. Runs in the peers' venv.

Its loss has no KL in effect (clamped to a capacity of 0) and averages the squared error over the columns; its network,
batches and number of epochs are those of the other contestants, so that the rows per second can be compared.
"""

from typing import Any

import numpy as np
import torch
from pyod.models.vae import VAE
from pyod.utils.torch_utility import TorchDataset

from benchmarks.workers.turns import Turns, serve


def train(turns: Turns, data: str, net: dict[str, Any], batch: int, every: int = 1) -> None:
    """`every` epochs of its loop per turn; the loop reads the rows as its `fit` does, and scores nothing."""
    x, hidden = np.load(data), list(net["hidden"])
    detector = VAE(
        epoch_num=every,
        batch_size=batch,
        encoder_neuron_list=hidden,
        decoder_neuron_list=hidden[::-1],
        latent_dim=net["latent"],
        dropout_rate=net.get("dropout", 0.0),
        verbose=0,
    )
    detector.data_num, detector.feature_size = x.shape
    detector.build_model()
    detector.training_prepare()
    rows = TorchDataset(X=x, y=None, mean=x.mean(axis=0), std=x.std(axis=0))
    loader = torch.utils.data.DataLoader(rows, batch_size=batch, shuffle=True, drop_last=True)
    for _ in turns:
        detector.train(loader)
        turns.report(steps=len(loader) * every, rows=len(loader) * batch * every)


if __name__ == "__main__":
    serve(train=train)
