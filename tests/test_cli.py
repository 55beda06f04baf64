"""The command line as a user meets it: files, numbers, exit codes, one-line errors."""

import json
import mmap
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet

import vaekit as vk
from vaekit import cli, plots, recipes, runs
from vaekit.cli import app

pytestmark = pytest.mark.usefixtures("quick_gap")

ROOT = Path(__file__).parents[1]
FAST = ["max_epochs=3", "hidden=16", "latent_dim=2"]


def vaekit(*arguments):
    return cli.run([str(a) for a in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert cli.run(["fit", "digits", "-o", str(folder), "--quiet", *FAST]) == 0
    return folder


def document(capsys):
    return json.loads(capsys.readouterr().out)


def test_fit_writes_a_run(run):
    names = {path.name for path in run.iterdir()}
    assert names == {"config.json", "model.safetensors", "metrics.jsonl", "settings.json"}
    assert len(runs.records(run)) == 3
    assert vk.load(run).event_shape == (1, 8, 8)


def test_evaluate_prints_what_the_library_computes(run, capsys):
    assert vaekit("evaluate", run, "--num-samples", 20, "--json") == 0
    numbers = document(capsys)
    data = vk.data.load("digits:test")
    generator = torch.Generator().manual_seed(0)
    expected = vk.evaluation.iwae(vk.load(run), data, num_samples=20, generator=generator)
    found = {row["name"]: row for row in numbers["results"]}
    assert found["iwae"]["value"] == pytest.approx(expected.mean, abs=1e-4)
    assert found["iwae"]["label"] == "IWAE, K = 20 (mass)"
    assert found["num_points"]["value"] == 360
    assert vaekit("evaluate", run, "digits:test", "--num-samples", 2) == 0
    out = capsys.readouterr().out
    assert "ELBO" in out
    assert "log p is a mass" in out
    assert "\x1b" not in out


def test_what_log_p_is_leaves_the_name_of_the_data_alone(run, tmp_path, capsys):
    """The article depends on the quantity: "a mass", "no density"."""
    x = vk.data.load("digits:test").x[:20]
    np.save(tmp_path / "a not so noisy a no.npy", x)
    for words in (["evaluate", run], ["compare", run, tmp_path / "twin"]):
        if words[0] == "compare":
            shutil.copytree(run, tmp_path / "twin")
        assert vaekit(*words, tmp_path / "a not so noisy a no.npy", "--num-samples", 2) == 0
        out = capsys.readouterr().out
        assert "20 rows of a not so noisy a no" in out
        assert "log p is a mass." in out
    grey = vk.VAE(
        vk.Conditional(vk.networks.MLP((1, 8, 8), (4,)), vk.posteriors.DiagonalNormal(2)),
        vk.Conditional(vk.networks.MLP(2, (4,)), vk.likelihoods.Bernoulli((1, 8, 8), grey=True)),
        vk.priors.StandardNormal(2),
        transform=vk.transforms.Scale(0, 16),
    )
    vk.save(grey, tmp_path / "grey")
    assert vaekit("evaluate", tmp_path / "grey", tmp_path / "a not so noisy a no.npy", "--num-samples", 2) == 0
    assert "20 rows of a not so noisy a no; log p is no density." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["likelihood=bernoulli"], "a mass"),
        (["likelihood=normal"], "a bound on a mass"),
        (["likelihood=normal", "transform=none"], "a density"),
        (["likelihood=bernoulli:grey=true", "transform=scale"], "no density"),
    ],
)
def test_fit_and_score_say_what_log_p_is(tmp_path, capsys, keys, words):
    small = ["max_epochs=1", "hidden=4", "latent_dim=2", "compile=off", "--quiet"]
    assert vaekit("fit", "digits", "-o", tmp_path / "r", *keys, *small) == 0
    assert capsys.readouterr().out.strip().endswith(f"(nats; log p is {words})")
    assert vaekit("fit", "digits", "-o", tmp_path / "r", "--resume", "--json") == 0
    quantity = words.removeprefix("a ")
    assert document(capsys)["quantity"] == quantity
    for name in ("s.csv", "s.npy", "s.parquet"):
        assert vaekit("score", tmp_path / "r", "digits:test", "-o", tmp_path / name, "--num-samples", 2) == 0
        assert f"log_p is {words}, in nats" in capsys.readouterr().err
    assert (tmp_path / "s.csv").read_text().splitlines()[0] == '"row","log_p","stderr","ess"'
    schema = parquet.read_schema(tmp_path / "s.parquet")
    assert schema.names == ["row", "log_p", "stderr", "ess"]
    assert schema.metadata[b"log_p"].decode() == f"{quantity}, in nats"
    assert runs.open(tmp_path / "r").score("digits:test", num_samples=2).quantity == quantity
    assert vaekit("info", tmp_path / "r", "--json") == 0
    assert document(capsys)["quantity"] == quantity


def test_score_writes_three_columns_that_repeat(run, tmp_path):
    for name in ("a.npy", "b.npy", "c.csv", "d.parquet"):
        assert vaekit("score", run, "digits:test", "-o", tmp_path / name, "--num-samples", 10) == 0
    scores = np.load(tmp_path / "a.npy")
    assert scores.dtype == np.float64
    assert scores.shape == (360, 3)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    table = np.genfromtxt(tmp_path / "c.csv", delimiter=",", names=True)
    np.testing.assert_allclose(table["log_p"], scores[:, 0])
    np.testing.assert_allclose(table["ess"], scores[:, 2])
    assert np.isfinite(scores).all()
    assert (scores[:, 2] <= 10 + 1e-9).all()


def test_sample_reconstruct_encode(run, tmp_path):
    assert vaekit("sample", run, "-n", 9, "-o", tmp_path / "s.npy", "--seed", 3) == 0
    assert vaekit("sample", run, "-n", 9, "-o", tmp_path / "t.npy", "--seed", 4) == 0
    draws = np.load(tmp_path / "s.npy")
    assert draws.shape == (9, 1, 8, 8)
    assert set(np.unique(draws)) <= set(range(17)), "draws of levels, in the units of the data"
    assert not np.array_equal(draws, np.load(tmp_path / "t.npy"))
    assert vaekit("sample", run, "-n", 9, "-o", tmp_path / "m.npy", "--mean") == 0
    assert len(np.unique(np.load(tmp_path / "m.npy"))) > 100
    assert vaekit("sample", run, "-n", 9, "-o", tmp_path / "s.png") == 0
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.size[0] > 20
    assert vaekit("sample", run, "-n", 4, "-o", tmp_path / "s.csv") == 0
    assert (tmp_path / "s.csv").read_text().splitlines()[0].count(",") == 63
    assert vaekit("reconstruct", run, "digits:test", "-o", tmp_path / "r.npy") == 0
    assert np.load(tmp_path / "r.npy").shape == (360, 1, 8, 8)
    assert vaekit("encode", run, "-o", tmp_path / "z.npy") == 0
    codes = np.load(tmp_path / "z.npy")
    assert codes.shape == (1437, 2), "encode takes the training part by default"
    expected = vk.load(run).encode(vk.data.load("digits:train"), generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(codes, expected.numpy())


@pytest.mark.parametrize(
    "kind", ["losses", "samples", "reconstructions", "latent", "manifold", "traversal", "interpolation"]
)
def test_plot(run, tmp_path, kind):
    assert vaekit("plot", run, kind, "-o", tmp_path / "p.png") == 0
    with Image.open(tmp_path / "p.png") as picture:
        image = np.asarray(picture.convert("L"))
    assert min(image.shape) > 100
    assert image.std() > 5


@pytest.mark.usefixtures("coarse")
def test_report_is_one_file_without_links(run, tmp_path):
    assert vaekit("report", run, "-o", tmp_path / "r.html", "--num-samples", 5) == 0
    page = (tmp_path / "r.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert page.count('src="data:image/svg+xml;base64,') >= 4


def test_info_and_list(run, capsys):
    assert vaekit("info", run, "--json") == 0
    about = document(capsys)
    assert about["posterior"].startswith("DiagonalNormal")
    assert about["num_parameters"] == sum(p.numel() for p in vk.load(run).parameters())
    assert vaekit("list", "--json") == 0
    entries = document(capsys)
    assert {"digits", "mnist", "fashion-mnist"} <= set(entries["data"])
    assert {"vae", "beta-vae", "conv-vae", "mlp-mnist", "conv-mnist"} <= set(entries["preset"])
    assert {"bernoulli", "discretized-logistic"} <= set(entries["likelihood"])
    assert all(text for members in entries.values() for text in members.values())
    assert vaekit("list") == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) > 100, "piped output is not wrapped"


def test_nothing_but_fit_writes_into_a_run(run, tmp_path):
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    vaekit("evaluate", run, "--num-samples", 2, "--json")
    vaekit("score", run, "-o", tmp_path / "s.csv", "--num-samples", 2)
    vaekit("info", run)
    assert before == {p.name: p.read_bytes() for p in run.iterdir()}


def error(capsys):
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert captured.out == ""
    assert len(lines) == 1, lines
    assert "Traceback" not in captured.err
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fit", "digits", "-o", "{new}", "latentdim=3"], 2, "no key 'latentdim'. Did you mean latent_dim"),
        (["fit", "digits", "-o", "{new}", "latent_dim=three"], 2, "latent_dim='three'"),
        (["fit", "digits", "-o", "{new}", "likelihood=bernuli"], 2, "Did you mean bernoulli"),
        (["fit", "digits", "-o", "{new}", "likelihood=bernoulli:gray=true"], 2, "Did you mean grey"),
        (["fit", "digits", "-o", "{new}", "--preset", "vea"], 2, "no preset 'vea'. Did you mean"),
        (["fit", "digits", "-o", "{new}", "objective=iwae", "beta=2"], 2, "iwae has no beta"),
        (["fit", "digits", "-o", "{new}", "what"], 2, "expected KEY=VALUE"),
        (["fit", "digits", "-o", "{new}", "beta=-1"], 2, "beta"),
        (["fit", "digits", "-o", "{new}", "em_steps=5"], 2, "em_steps='5': expected two counts"),
        (["fit", "digits", "-o", "{new}", "em_steps=5,0"], 2, "em_steps='5,0'"),
        (["fit", "digits", "-o", "{new}", "likelihood=bernoulli", "transform=scale"], 1, "Binarise the data"),
        (["fit", "digitz", "-o", "{new}"], 1, "Did you mean digits"),
        (["fit", "digits"], 2, "Missing option"),
        (["fit", "digits", "-o", "{run}"], 2, "use --resume to go on, --overwrite"),
        (["fit", "digits", "-o", "{run}", "--resume", "seed=7"], 2, "was started with seed=0, now it is 7"),
        (["fit", "digits", "-o", "{run}", "--resume", "--overwrite"], 2, "exclude each other"),
        (["score", "{run}", "digits", "-o", "s.txt"], 2, "of .npy, .csv, .parquet, .feather, .json, .jsonl; got .txt"),
        (["score", "{run}", "digits", "-o", "{new}/s.npy"], 2, "does not exist"),
        (["evaluate", "{new}"], 1, "no saved model"),
        (["plot", "{run}", "pie", "-o", "p.png"], 2, "no picture 'pie'"),
        (["evaluate", "{run}", "--num-samples", "0"], 2, "--num-samples"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_misuse_gets_one_line_and_a_code(run, tmp_path, capsys, arguments, code, message):
    places = {"{new}": str(tmp_path / "new"), "{run}": str(run)}
    for key, value in places.items():
        arguments = [a.replace(key, value) for a in arguments]
    assert vaekit(*arguments) == code
    assert message in error(capsys)
    assert not (tmp_path / "new").exists()


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(vk.errors.ArtifactError):
        vaekit("info", tmp_path, "--debug")


def test_config_file_and_pairs(tmp_path, capsys):
    (tmp_path / "c.toml").write_text('preset = "beta-vae"\nmax_epochs = 9\nhidden = [8]\nlatent_dim = 2\n')
    arguments = ["fit", "digits", "-o", tmp_path / "r", "--config", tmp_path / "c.toml", "max_epochs=1", "beta=3"]
    assert vaekit(*arguments, "--json", "--quiet") == 0
    result = document(capsys)
    assert result["epochs"] == 1
    about = runs.open(tmp_path / "r").describe()
    assert "beta=3.0" in about["objective"]
    assert "MLP(in_shape=(1, 8, 8), hidden=(8)" in about["encoder_network"]
    (tmp_path / "bad.toml").write_text("latent_dim = = 2")
    assert vaekit("fit", "digits", "-o", tmp_path / "x", "--config", tmp_path / "bad.toml") == 2
    assert "not valid TOML" in error(capsys)


def test_em_steps_are_a_key(tmp_path, capsys):
    keys = {"max_epochs": "1", "hidden": "8", "latent_dim": "2", "compile": "off", "em_steps": "999,1"}
    words = [f"{key}={value}" for key, value in keys.items()]
    assert vaekit("fit", "digits", "-o", tmp_path / "r", *words, "--quiet") == 0
    fitted = runs.open(tmp_path / "r")
    assert fitted.settings.em_steps == (999, 1)
    train, _ = vk.data.holdout(vk.data.load("digits:train"))
    plan = recipes.plan(recipes.settings(keys), train, progress=False)
    assert plan.trainer.em_steps == (999, 1)
    before, after = plan.model.state_dict(), fitted.model.state_dict()
    moved = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"encoder"}, "an epoch of twelve updates has E steps alone"
    assert vaekit("fit", "digits", "-o", tmp_path / "r", "--resume", "em_steps=999,1") == 0
    capsys.readouterr()
    assert vaekit("fit", "digits", "-o", tmp_path / "r", "--resume", "em_steps=1,1") == 2
    assert "was started with em_steps=" in error(capsys)
    assert vaekit("list", "key") == 0
    assert "em_steps" in capsys.readouterr().out


def test_resume_of_a_finished_run_changes_nothing(run, capsys):
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in run.iterdir()}
    assert vaekit("fit", "digits", "-o", run, "--resume", *FAST) == 0
    assert vaekit("fit", "digits", "-o", run, "--resume") == 0
    assert before == {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in run.iterdir()}
    assert "finished already" in capsys.readouterr().err


def test_tables_with_labels(tmp_path, capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3)) * [1, 10, 100] + 5
    lines = ["a,b,c,kind"] + [f"{r[0]},{r[1]},{r[2]},{'ab'[i % 2]}" for i, r in enumerate(x)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "unlabelled.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    assert vaekit("fit", tmp_path / "t.csv", "-o", tmp_path / "r", "--label", "kind", "--quiet", *FAST) == 0
    assert vaekit("evaluate", tmp_path / "r", "--json", "--num-samples", 5) == 0
    capsys.readouterr()
    assert vaekit("score", tmp_path / "r", tmp_path / "unlabelled.csv", "-o", tmp_path / "s.npy") == 0
    assert np.load(tmp_path / "s.npy").shape == (120, 3)
    assert vaekit("sample", tmp_path / "r", "-n", 500, "-o", tmp_path / "s.csv") == 0
    samples = np.genfromtxt(tmp_path / "s.csv", delimiter=",", names=True)
    assert samples.dtype.names == ("a", "b", "c")
    assert np.std(samples["c"]) == pytest.approx(100, rel=0.3)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n3,4\n")
    capsys.readouterr()
    assert vaekit("score", tmp_path / "r", tmp_path / "other.csv", "-o", tmp_path / "s.npy") == 1
    assert "'other' has no column 'c'" in error(capsys)
    assert vaekit("fit", tmp_path / "t.csv", "-o", tmp_path / "q", "likelihood=normal", *FAST) == 1
    assert "kind" in error(capsys)


def start(*arguments):
    command = [sys.executable, "-m", "vaekit", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process, *codes):
    """Wait for the end; check the exit code, and that no traceback was shown."""
    _, err = process.communicate(timeout=120)
    assert process.returncode in codes, err
    assert "Traceback" not in err
    return process.returncode


LONG = ["hidden=16", "latent_dim=2", "max_epochs=60", "patience=60", "checkpoint_every=1", "--quiet"]


def wait_for_new(path, process, seconds=60):
    """Wait until a file is there that was not there before, or the process has ended."""
    before = path.stat().st_mtime_ns if path.exists() else None
    end = time.monotonic() + seconds
    while process.poll() is None and (not path.exists() or path.stat().st_mtime_ns == before):
        assert time.monotonic() < end, f"{path.name} did not appear"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(start("fit", "digits", "-o", folder, *LONG), 0)
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_interrupted_runs_resume_to_the_same_weights(tmp_path, whole, number, code):
    folder = tmp_path / "run"
    for pause in (0.0, 0.03, 0.07):
        process = start("fit", "digits", "-o", folder, "--resume", *LONG)
        wait_for_new(folder / "checkpoint.safetensors", process)
        time.sleep(pause)
        process.send_signal(number)
        if finish(process, code, 0) and number != signal.SIGKILL:
            assert vk.load(folder).event_shape == (1, 8, 8), "the best weights so far are there"
            assert not runs.is_finished(folder)
    finish(start("fit", "digits", "-o", folder, "--resume", *LONG), 0)
    assert (folder / "model.safetensors").read_bytes() == whole
    assert not (folder / "checkpoint.safetensors").exists()
    assert [record["epoch"] for record in runs.records(folder)] == list(range(1, 61))


def test_the_help_of_plot_names_every_picture(capsys):
    assert vaekit("plot", "--help") == 0
    assert ", ".join(plots.KINDS) + "." in " ".join(capsys.readouterr().out.split())


def test_help_is_quick_and_imports_no_torch():
    code = (
        "import sys; sys.argv = ['vaekit', '--help']\n"
        "from vaekit.cli import main\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code\n"
        "import time\n"
        "print('torch' in sys.modules, 'pydantic' in sys.modules, time.process_time(), file=sys.stderr)"
    )
    results = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(3)]
    for result in results:
        assert result.stderr.split()[:2] == ["False", "False"], result.stderr
        assert "fit" in result.stdout
    assert min(float(result.stderr.split()[2]) for result in results) < 0.3


def test_every_command_has_help_with_an_example(capsys):
    for about in app.app.registered_commands:
        command = about.name or about.callback.__name__
        assert vaekit(command, "--help") == 0
        assert f"Example: vaekit {command}" in capsys.readouterr().out.replace("\n", " ")


def test_a_command_costs_a_function(run, tmp_path, monkeypatch, capsys):
    """The options of the data come with its argument, behind the command's own; the suffix is checked first."""
    monkeypatch.setattr(app.app, "registered_commands", list(app.app.registered_commands))

    @app.command("vaekit count runs/digits -o rows.txt", writes=(".txt",))
    def count(run: app.Run, data: app.Data, output: app.Output, seed: app.Seed = 0, json_: app.Json = False):
        """Count rows."""
        output.write_text(f"{len(data.of(app.open_run(run)))} {seed} {json_}")

    assert vaekit("count", "--help") == 0
    text = capsys.readouterr().out
    names = [
        "Count rows.",
        "RUN",
        "[DATA]",
        "--output",
        "--seed",
        "--label",
        "--key",
        "--data-dir",
        "--json",
        "Example:",
    ]
    places = [text.index(name, text.index("Count rows.")) for name in names]
    assert places == sorted(places)
    assert vaekit("count", run, "digits:test", "-o", tmp_path / "n.txt", "--seed", 3) == 0
    assert (tmp_path / "n.txt").read_text() == "360 3 False"
    assert vaekit("count", run, "digits:test", "-o", tmp_path / "n.csv") == 2
    assert "one of .txt; got .csv" in error(capsys)


def test_import_costs_little_beyond_torch():
    """The core's own modules beside all that torch imports, in one process: 60 ms where torch takes 1.5 s.

    The least of up to eight runs, for machines are shared.
    """
    code = "import vaekit; vaekit.VAE; import sys; print('pydantic' in sys.modules, 'matplotlib' in sys.modules)"
    shares = []
    while len(shares) < 8 and not any(share < 0.04 for share in shares):
        command = [sys.executable, "-X", "importtime", "-c", code]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        rows = [line.split("|") for line in result.stderr.splitlines() if line.count("|") == 2]
        own = sum(int(own.rpartition(":")[2]) for own, _, name in rows if "vaekit" in name)
        (torch,) = (int(total) for _, total, name in rows if name.strip() == "torch")
        shares.append(own / torch)
        assert result.stdout.split() == ["False", "False"]
    assert 0 < min(shares) < 0.04


def test_nothing_loads_the_compiler_before_it_is_needed():
    """torch's compiler and sympy are half of the start-up of a program, and 70 MiB."""
    code = """
import sys, torch, vaekit as vk
x = torch.ones(8, 3)
for name in ("vae", "s_vae", "ladder_vae", "hierarchical_vamp", "vae_iaf", "hvae", "factor_vae"):
    model, objective = getattr(vk.presets, name)((3,), likelihood="bernoulli")
    vk.evaluation.log_marginal(model, x, num_samples=2)
    vk.Trainer(max_epochs=2, batch_size=4, progress=False).fit(model, objective, x, x)
vk.evaluation.evaluate(model, x, num_samples=2)
vk.training.fit_prior(model, x, vk.priors.AffineCoupling(model.prior().event_shape[0]), num_draws=16, max_epochs=1)
print(*(name in sys.modules for name in ("torch._dynamo", "sympy")))
"""
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


def test_scoring_a_table_loads_nothing_for_nothing(tmp_path):
    """pandas, scikit-learn, scipy and the compiler take longer than two rows."""
    rows = "id,a,b\n" + "".join(f"r{i},{i}.5,{i * i % 7}.25\n" for i in range(20))
    (tmp_path / "rows.csv").write_text(rows)
    folder = tmp_path / "run"
    assert (
        cli.run(["fit", str(tmp_path / "rows.csv"), "--key", "id", "-o", str(folder), "--quiet", "max_epochs=1"]) == 0
    )
    (tmp_path / "new.csv").write_text("id,a,b\nu,1.5,\nv,2.5,4.25\n".replace("1.5,", "1.5,0.5"))
    code = (
        "import sys, time, torch; start = time.process_time()  # what torch took to load is the unit: machines differ\n"
        "from vaekit import cli; code = cli.run(sys.argv[1:]); seconds = time.process_time() - start\n"
        "loaded = [m for m in ('pandas', 'sklearn', 'scipy', 'torch._dynamo') if m in sys.modules]\n"
        "print(code, *loaded, file=sys.stderr); print(seconds / start, file=sys.stderr)"
    )
    arguments = ("score", str(folder), str(tmp_path / "new.csv"), "-o", str(tmp_path / "s.csv"))
    command = [sys.executable, "-c", code, *arguments]
    results = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]
    assert {result.stderr.splitlines()[-2] for result in results} == {"0"}
    assert min(float(result.stderr.splitlines()[-1]) for result in results) < 1.0
    assert [line.split(",")[0] for line in (tmp_path / "s.csv").read_text().splitlines()] == ['"id"', '"u"', '"v"']


def test_packages_list_the_names_that_they_import_on_demand():
    """What tab completion shows, before anything was used."""
    code = (
        "import vaekit as vk; print({*dir(vk)} >= {*vk.__all__, 'networks'}, dir(vk.networks) == vk.networks.__all__)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True", "True"]


# --- Memory ----------------------------------------------------------------------------------------------------------

BLOCKS = """
import resource, sys, torch
import vaekit as vk
from vaekit import engine
from vaekit.cli import main

def new_pages(number):
    "Pages that `number` blocks of 48 MiB, one after the other, got from the system."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(number):
        torch.ones(12 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

class Count(vk.training.Callback):
    def on_epoch_end(self, loop, record):
        print(new_pages(30))

torch.ones(8), new_pages(1)
print(new_pages(30))
if sys.argv.pop() == "program":
    sys.argv = ["vaekit", "frobnicate"]
    try:
        main()
    except SystemExit:
        pass
new_pages(10)
model, objective = vk.presets.vae((3,), hidden=(4,), likelihood="bernoulli")
vk.Trainer(max_epochs=1, progress=False, callbacks=[Count()]).fit(model, objective, torch.ones(4, 3))
print(new_pages(30))
"""
IN_THE_DOCS = re.search(
    r"^(MALLOC_\S+) (MALLOC_\S+) python", (ROOT / "docs" / "performance.md").read_text(), re.M
).groups()


@pytest.mark.skipif(sys.platform != "linux" or mmap.PAGESIZE != 4096, reason="counts pages of 4 KiB")
@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="settings of glibc")
@pytest.mark.parametrize(
    ("who", "variables", "kept"),
    [
        ("program", [], [False, True, True]),
        ("program", ["MALLOC_ARENA_TEST=8"], [False, False, False]),
        ("library", [], [False, False, False]),
        ("library", IN_THE_DOCS, [True, True, True]),
    ],
)
def test_the_program_keeps_freed_memory_and_the_library_does_not(who, variables, kept):
    """Before, in training, and after; the settings of a user count. A block of 48 MiB has 12,288 pages."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    environment |= dict(variable.split("=") for variable in variables)
    command = [sys.executable, "-c", BLOCKS, who]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()
    blocks = [int(number) / 12_288 for number in answer]
    assert len(blocks) == 3
    for number, is_kept in zip(blocks, kept, strict=True):
        assert number < 10 if is_kept else number > 29, blocks
