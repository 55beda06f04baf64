"""vaekit at many sizes in one process: an epoch of training, an evaluation."""

import torch

import vaekit as vk
from benchmarks.workers.library import make_model
from benchmarks.workers.turns import Turns, serve

HIDDEN = 512


def bits(num_rows: int, side: int) -> torch.Tensor:
    """Random bits of shape (N, 1, side, side)."""
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(num_rows, 1, side, side, generator=generator) < 0.2).float()


def training(x: torch.Tensor, latent: int, batch: int) -> float:
    """Seconds of the second of two epochs."""
    model = make_model({"kind": "mlp", "hidden": [HIDDEN], "latent": latent}, tuple(x.shape[1:]))
    trainer = vk.Trainer(max_epochs=2, batch_size=batch, compile="off", precision="float32", progress=False)
    return trainer.fit(model, vk.objectives.ELBO(), x)["seconds"][-1]


def cost(turns: Turns) -> None:
    """Per turn one size: `what` is "training" (an epoch) or "evaluation" (log p of all rows)."""
    for size in turns:
        x = bits(size["num_rows"], size["side"])
        if size["what"] == "training":
            seconds = training(x, size["latent"], size["batch"])
            turns.report(seconds=seconds)
            continue
        model = make_model({"kind": "mlp", "hidden": [HIDDEN], "latent": size["latent"]}, tuple(x.shape[1:]))
        turns.restart()
        vk.evaluation.log_marginal(
            model, x, num_samples=size["num_samples"], compile="off", generator=torch.Generator().manual_seed(0)
        )
        turns.report()


if __name__ == "__main__":
    serve(cost=cost)
