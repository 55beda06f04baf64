"""What somebody writes who has FastAPI, torch and the weights of a fitted VAE: log p(x) by K draws, in 40 lines.

python bare_service.py RUN PORT THREADS
"""

import math
import sys

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributions import Normal

run, port, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
weights = load_file(f"{run}/model.safetensors")
app = FastAPI()


def mlp(part: str) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for name in (f"{part}.network.layers.1", f"{part}.network.layers.3", f"{part}.adapter.linear"):
        linear = nn.Linear(*weights[f"{name}.weight"].T.shape)
        linear.load_state_dict({kind: weights[f"{name}.{kind}"] for kind in ("weight", "bias")})
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


encoder, decoder = mlp("encoder"), mlp("decoder")
loc, scale = weights["transform.loc"], weights["transform.scale"]
noise_scale, prior = weights["decoder.head.scale_parameter.raw"].exp(), Normal(0.0, 1.0)


class Rows(BaseModel):
    """A request."""

    rows: list[list[float]]
    seed: int = 0
    num_samples: int = 100


def log_marginal(x: Tensor, num_samples: int) -> Tensor:
    """log p(x) of some rows."""
    mean, log_variance = encoder(x).chunk(2, -1)
    q = Normal(mean, (log_variance / 2).exp())
    z = q.sample(torch.Size((num_samples,)))
    log_w = Normal(decoder(z), noise_scale).log_prob(x).sum(-1) + (prior.log_prob(z) - q.log_prob(z)).sum(-1)
    return log_w.logsumexp(0) - math.log(num_samples) - scale.log().sum()


@app.post("/score")
async def score(body: Rows) -> dict[str, list[float]]:
    """log p(x) of each row, 256 rows at a time."""
    with torch.inference_mode():
        torch.manual_seed(body.seed)
        x = (torch.tensor(body.rows) - loc) / scale
        return {"log_p": torch.cat([log_marginal(part, body.num_samples) for part in x.split(256)]).tolist()}


uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
