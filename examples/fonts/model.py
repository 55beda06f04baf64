"""A model of fonts: one z for the style of a font, an embedding for each character, and its training."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR

import vaekit as vk
from examples.fonts.glyphs import Fonts, Style

LATENT_DIM = 32
_EMBEDDING = 64
_ENOUGH = 200  # training fonts; where there are fewer, each has a copy in a changed style


def autoencoder(num_characters: int, side: int, hidden: int = 512) -> vk.VAE:
    """p(z) N(0, I); q(z|x) a product over the glyphs that are given; p(x|z) the bits of each glyph."""
    shape = (num_characters, side, side)
    glyph = vk.networks.ConvEncoder((side, side), channels=(16, 32, 64), activation="silu", batch_norm=False)
    members = vk.networks.MemberEncoder(shape, glyph, each=(2, LATENT_DIM), embedding_size=_EMBEDDING, hidden=hidden)
    bits = vk.likelihoods.Bernoulli((side, side), missing="observed-only")
    decoder = vk.networks.MLP(LATENT_DIM + _EMBEDDING, (hidden,) * 3, "silu")
    return vk.VAE(
        encoder=vk.Conditional(members, vk.posteriors.ProductOfExperts(LATENT_DIM, num_characters)),
        decoder=vk.Conditional(
            vk.networks.MLP(LATENT_DIM, ()), vk.likelihoods.Group(shape, bits, decoder, embedding_size=_EMBEDDING)
        ),
        prior=vk.priors.StandardNormal(LATENT_DIM),
    )


def training_rows(fonts: Fonts, seed: int, copies: int | None = None) -> np.ndarray:
    """The fonts that are not held out and copies of them, slanted, narrowed or made bolder, (N, L, SIDE, SIDE)."""
    noise = np.random.default_rng(seed)
    rows = [fonts.bits[~fonts.held_out]]
    faces = [face for face, out in zip(fonts.faces, fonts.held_out, strict=True) if not out]
    for _ in range((len(faces) < _ENOUGH) if copies is None else copies):
        changed = [
            Style(float(noise.uniform(-0.1, 0.3)), float(noise.uniform(0.75, 1.05)), int(noise.choice((0, 0, 1, 2))))
            for _ in faces
        ]
        rows.append(np.stack([face.bits(style) for face, style in zip(faces, changed, strict=True)]))
    return np.concatenate(rows)


class Clock(vk.training.Callback):
    """Ends training after so many seconds of the processors' time, which other programs do not shorten."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.start, self.steps = seconds, time.process_time(), 0

    @property
    def share(self) -> float:
        """How much of them is over, from 0 to 1."""
        return min(1.0, (time.process_time() - self.start) / self.seconds)

    def on_fit_start(self, loop: object) -> None:
        """Start."""
        self.start = time.process_time()

    def on_step_end(self, loop: object) -> None:
        """Count."""
        self.steps += 1

    def on_epoch_end(self, loop: vk.training.callbacks.Run, record: dict[str, float]) -> None:
        """Look at the time."""
        loop.stop = loop.stop or self.share >= 1


def rate(clock: Clock) -> Callable[[int], float]:
    """The learning rate's factor: up within 200 steps, then down with the time that is over, as a cosine."""
    return lambda step: min(1.0, (step + 1) / 200) * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * clock.share))))


def fit(model: vk.VAE, rows: np.ndarray, seconds: float, seed: int) -> dict[str, float]:
    """Train on random few glyphs of each font: 0 to 30% of them, or of many characters about 16."""
    clock = Clock(seconds)
    least = 1 - min(1.0, 16 / rows.shape[1])
    objective = vk.objectives.HideCells(vk.objectives.ELBO(), rows=1.0, least=least, most=1.0, leading=1)
    trainer = vk.Trainer(
        max_epochs=10**6,
        batch_size=16,
        learning_rate=2e-3,
        scheduler=lambda optimizer: LambdaLR(optimizer, rate(clock)),
        scheduler_moves="step",
        max_grad_norm=100.0,
        callbacks=[clock],
        compile="off",
        seed=seed,
        progress=False,
    )
    start = time.perf_counter()
    history = trainer.fit(model, objective, torch.from_numpy(rows))
    return {
        "steps": clock.steps,
        "epochs": len(history["train_elbo"]),
        "train_elbo": history["train_elbo"][-1],
        "train_seconds": round(time.perf_counter() - start, 1),
        "train_cpu_seconds": round(time.process_time() - clock.start, 1),
    }
