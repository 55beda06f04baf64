"""Workers that are forked after torch has used several threads train and score as their parent does."""

import os
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import multiprocessing, warnings
    import torch, vaekit as vk

    warnings.simplefilter("ignore")  # newer Pythons warn of any fork of a process with threads
    torch.set_num_threads(2)
    x = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))

    def fitted():
        with vk.engine.seeded(0):
            model, objective = vk.presets.vae(64, latent_dim=8, hidden=(64,), likelihood="normal")
        vk.Trainer(max_epochs=1, progress=False, compile="off", seed=0).fit(model, objective, x)
        return model

    def score(model):
        noise = torch.Generator().manual_seed(1)
        return vk.evaluation.log_marginal(model, x[:200], num_samples=20, generator=noise).mean

    model = fitted()
    here = score(model)

    def work(what):
        return score(model if what == "score" else fitted()), torch.get_num_threads()

    pool = multiprocessing.get_context("fork").Pool(2)
    for what in ("score", "fit"):
        for job in [pool.apply_async(work, (what,)) for _ in range(2)]:
            there, threads = job.get(timeout=100)
            assert abs(there - here) < 1e-3, (what, here, there)
            assert threads == 2
    pool.terminate()
    assert score(model) == here
    print("done")
"""


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="this system does not fork")
def test_forked_workers_answer():
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "done"
