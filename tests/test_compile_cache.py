"""The compile cache on disk, and machines without a compiler."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from platformdirs.unix import Unix

import vaekit as vk
from vaekit import cli, engine
from vaekit.engine import caches
from vaekit.engine.speed import compilation


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that it is put back, whatever the test sets
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")


def test_where_the_cache_is(tmp_path, monkeypatch):
    assert engine.cache_dir("rows") == tmp_path / "cache" / "rows"
    assert (tmp_path / "cache" / "rows").is_dir()
    monkeypatch.delenv("VAEKIT_CACHE")
    monkeypatch.setattr("platformdirs.PlatformDirs", Unix)  # on any system
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert engine.cache_dir("rows") == tmp_path / "xdg" / "vaekit" / "rows"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert engine.cache_dir("rows") == tmp_path / "home" / ".cache" / "vaekit" / "rows"


def test_a_cache_that_cannot_be_made_falls_back_to_temporary_files(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(caches.tempfile, "gettempdir", lambda: str(tmp_path))
    assert engine.cache_dir("rows") == tmp_path / f"vaekit-{os.getuid()}" / "rows"


def test_compilation_is_told_where_to_keep_its_code_unless_the_user_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "compiler", lambda: "c++")
    monkeypatch.setattr(compilation.torch, "compile", lambda function, **_: function)
    engine.compiled(len, False)
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    engine.compiled(len, True)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "cache" / "compiled")
    from torch._inductor.runtime import cache_dir_utils  # torch sets the variable itself as soon as it can

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", cache_dir_utils.default_cache_dir())
    engine.compiled(len, True)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "cache" / "compiled")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
    engine.compiled(len, True)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "mine")
    assert engine.compile_cache() == tmp_path / "mine"


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA compiles without a C++ compiler")
@pytest.mark.parametrize("compile", ["auto", "on"])
def test_without_a_compiler_training_stays_eager_with_one_notice(tmp_path, monkeypatch, compile):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(compilation, "_COMPILE_SECONDS", 0.0)  # compilation would pay at once
    x = torch.bernoulli(torch.full((320, 6), 0.4))
    weights = {}
    for mode in (compile, "off"):
        with engine.seeded(0):
            model, objective = vk.presets.vae((6,), latent_dim=2, hidden=(8,))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            vk.Trainer(max_epochs=8, batch_size=32, compile=mode, progress=False).fit(model, objective, x)
        notices = [str(warning.message) for warning in caught]
        assert len(notices) == (mode != "off"), notices
        assert all("no C++ compiler was found" in notice for notice in notices)
        weights[mode] = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert torch.equal(weights[compile], weights["off"])


def test_info_reports_the_machine(tmp_path, capsys):
    assert cli.run(["info", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)["engine"]
    assert about["compile_cache"] == str(tmp_path / "cache" / "compiled")
    assert {"precision", "compile", "compiler", "threads", "memory_format", "flush_denormals"} <= set(about)


@pytest.mark.slow
@pytest.mark.skipif(engine.compiler() is None, reason="no C++ compiler")
def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    code = """
        import torch, vaekit as vk
        from torch._dynamo.utils import counters
        x = torch.ones(64, 6)
        model, objective = vk.presets.vae((6,), latent_dim=2, hidden=(8,))
        vk.Trainer(max_epochs=1, batch_size=64, compile="on", progress=False).fit(model, objective, x)
        print(counters["aot_autograd"]["autograd_cache_hit"] + counters["inductor"]["fxgraph_cache_hit"])
    """
    script = tmp_path / "fit.py"
    script.write_text("\n".join(line[8:] for line in code.splitlines()))
    hits = []
    for _ in range(2):
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, env={**os.environ})
        assert done.returncode == 0, done.stderr
        hits.append(int(done.stdout))
    assert hits[0] == 0
    assert hits[1] > 0
    assert any(Path(tmp_path, "cache", "compiled").iterdir())
