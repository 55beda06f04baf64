"""The service answers as the command line does, refuses with a reason, and keeps to its limits."""

import csv
import io
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from serving import fit_all, records, service, write_csv

import vaekit as vk
from vaekit import cli

pytestmark = pytest.mark.filterwarnings("ignore::vaekit.errors.ReadingWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fit_all(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def served(folder):
    runs = [folder / name for name in ("people", "numbers", "images", "classes")]
    with service(*runs, "--max-rows", 300, "--max-mib", 1) as found:
        yield found


@pytest.fixture(scope="module")
def client(served):
    with httpx.Client(base_url=served.url, timeout=60) as found:
        yield found


def ask(client, model, question, expected=200, **body):
    answer = client.post(f"/v1/models/{model}/{question}", json=body)
    assert answer.status_code == expected, answer.text
    return answer.json()


def printed(capsys, *arguments):
    """The columns of the CSV that a command prints."""
    capsys.readouterr()
    assert cli.run([str(argument) for argument in arguments]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    return dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))


def floats(column):
    return [float(cell) for cell in column]


# --- Answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 5])
def test_scores_are_those_of_the_command_line(client, folder, tmp_path, capsys, seed):
    rows = records(7, seed=9)
    path = write_csv(tmp_path / "rows.csv", rows)
    expected = printed(capsys, "score", folder / "people", path, "--seed", seed, "--num-samples", 30, "-o", "-")
    found = ask(client, "people", "score", rows=rows, seed=seed, num_samples=30)
    query = {"seed": seed, "num_samples": 30}
    as_file = client.post(
        "/v1/models/people/score", content=path.read_bytes(), params=query, headers={"content-type": "text/csv"}
    ).json()
    for name in ("log_p", "stderr", "ess"):
        np.testing.assert_allclose(found[name], floats(expected[name]), rtol=1e-5)
        np.testing.assert_allclose(as_file[name], floats(expected[name]), rtol=1e-5)


def test_an_array_is_taken_as_lists_and_as_a_file(client, folder, tmp_path, capsys):
    x = np.random.default_rng(3).normal(size=(5, 4))
    np.save(tmp_path / "x.npy", x)
    expected = printed(capsys, "score", folder / "numbers", tmp_path / "x.npy", "-o", "-")
    found = ask(client, "numbers", "score", rows=x.tolist())
    npy = client.post(
        "/v1/models/numbers/score",
        content=(tmp_path / "x.npy").read_bytes(),
        headers={"content-type": "application/x-npy"},
    ).json()
    np.testing.assert_allclose(found["log_p"], floats(expected["log_p"]), rtol=1e-5)
    np.testing.assert_allclose(npy["log_p"], floats(expected["log_p"]), rtol=1e-5)


def test_images_are_taken_as_lists_and_as_a_picture(client, folder, tmp_path, capsys):
    from PIL import Image

    x = np.random.default_rng(4).integers(0, 17, size=(1, 1, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    expected = printed(capsys, "score", folder / "images", tmp_path / "x.npy", "-o", "-")
    found = ask(client, "images", "score", rows=x.tolist())
    np.testing.assert_allclose(found["log_p"], floats(expected["log_p"]), rtol=1e-5)
    file = io.BytesIO()
    Image.fromarray(x[0, 0]).save(file, "PNG")
    picture = client.post(
        "/v1/models/images/score", content=file.getvalue(), headers={"content-type": "image/png"}
    ).json()
    np.testing.assert_allclose(picture["log_p"], found["log_p"], rtol=1e-5)


def test_codes_and_reconstructions_are_those_of_the_command_line(client, folder, tmp_path, capsys):
    rows = records(4, seed=2)
    path = write_csv(tmp_path / "rows.csv", rows)
    codes = printed(capsys, "encode", folder / "people", path, "-o", "-")
    found = ask(client, "people", "encode", rows=rows)
    for name, column in found.items():
        np.testing.assert_allclose(column, floats(codes[name]), rtol=1e-4, atol=1e-6)
    expected = printed(capsys, "reconstruct", folder / "people", path, "-o", "-")
    found = ask(client, "people", "reconstruct", rows=rows)["rows"]
    assert [row["city"] for row in found] == list(expected["city"])
    np.testing.assert_allclose([row["income"] for row in found], floats(expected["income"]), rtol=1e-5)
    assert ask(client, "people", "encode", rows=rows, draw=True) != ask(client, "people", "encode", rows=rows)


def test_classes_are_those_of_the_command_line(client, folder, tmp_path, capsys):
    rows = [{"a": 0.5, "b": 1.0}, {"a": -2.0, "b": 0.0}]
    expected = printed(capsys, "classify", folder / "classes", write_csv(tmp_path / "rows.csv", rows), "-o", "-")
    found = ask(client, "classes", "classify", rows=rows)
    assert found["label"] == list(expected["label"])
    np.testing.assert_allclose(found["p_up"], floats(expected["p_up"]), rtol=1e-5)


def test_means_under_cells_are_refused_as_options_that_exclude_each_other(client):
    asked = {"n": 3, "mean": True, "given": {"age": 40}}
    answer = client.post("/v1/models/people/sample", json=asked)
    assert answer.status_code == 409
    assert "a condition on cells asks for draws" in answer.json()["reason"]


def test_samples_are_those_of_the_command_line(client, folder, capsys):
    given = ["-n", 5, "--seed", 3, "--given", "city=Bonn"]
    expected = printed(capsys, "sample", folder / "people", *given, "-o", "-")
    found = ask(client, "people", "sample", n=5, seed=3, given={"city": "Bonn"})["rows"]
    assert {row["city"] for row in found} == {"Bonn"}
    np.testing.assert_allclose([row["income"] for row in found], floats(expected["income"]), rtol=1e-5)


def test_holes_are_filled_and_other_cells_stay(tmp_path):
    rows = records(300, seed=5)
    for i, row in enumerate(rows):
        row[("age", "income", "city")[i % 3]] = None if i % 4 == 0 else row[("age", "income", "city")[i % 3]]
    path = write_csv(tmp_path / "holes.csv", rows)
    run = vk.runs.fit(str(path), tmp_path / "holes", {"max_epochs": 1, "hidden": "8"}, progress=False)
    some = rows[:9]
    expected = vk.runs.open(tmp_path / "holes").impute(vk.runs.open(tmp_path / "holes").rows(some)).to_frame("pyarrow")
    with service(tmp_path / "holes") as found, httpx.Client(base_url=found.url) as client:
        answers = together(client, [("holes", "impute", {"rows": [row]}) for row in some])
    assert run is not None
    for row, answer, whole in zip(some, answers, expected.to_pylist(), strict=True):
        filled = answer["rows"][0]
        for name, cell in row.items():
            close = pytest.approx(whole[name], rel=1e-4) if isinstance(whole[name], float) else whole[name]
            assert filled[name] == (close if cell is None else cell), (row, filled)


def counted(text, name):
    """The value of a metric."""
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} "))


def together(client, asked):
    """The answers to several questions that are asked at the same time."""
    with ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(lambda one: ask(client, one[0], one[1], **one[2]), asked))


@pytest.mark.parametrize(("model", "question"), [("people", "score"), ("people", "encode"), ("classes", "classify")])
def test_a_row_is_answered_alike_alone_and_among_64_others(client, model, question):
    rng = np.random.default_rng(0)
    rows = (
        records(64, seed=1)
        if model == "people"
        else [{"a": float(a), "b": float(b)} for a, b in rng.normal(size=(64, 2))]
    )
    answers = together(client, [(model, question, {"rows": [row]}) for row in rows])
    for row, answer in list(zip(rows, answers, strict=True))[::9]:
        alone = ask(client, model, question, rows=[row])
        for name, column in alone.items():
            if name != "label":
                np.testing.assert_allclose(answer[name], column, rtol=1e-5, atol=1e-6)
    text = client.get("/metrics").text
    passes = [
        line for line in text.splitlines() if line.startswith(f'vaekit_pass_requests_bucket{{le="1.0",model="{model}"')
    ]
    total = [line for line in text.splitlines() if line.startswith(f'vaekit_pass_requests_count{{model="{model}"')]
    assert float(total[0].split()[-1]) > float(passes[0].split()[-1]), "no pass was shared"


def test_a_bad_row_among_64_fails_alone(client):
    rows = [[row] for row in records(64, seed=3)]
    rows[17] = [dict(rows[17][0], income=-1.0)]
    rows[40] = [dict(rows[40][0], city="Xanten")]
    rows[41] = [rows[1][0], {"age": 3.0}]

    def status(some):
        return client.post("/v1/models/people/score", json={"rows": some})

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(status, rows))
    bad = {i: answer.json() for i, answer in enumerate(answers) if answer.status_code != 200}
    assert {i: (found["row"], found["column"]) for i, found in bad.items()} == {
        17: (0, "income"),
        40: (0, "city"),
        41: (1, "income"),
    }
    assert all(answers[i].status_code == 422 for i in bad)
    assert "above 0" in bad[17]["reason"]


# --- Refusals --------------------------------------------------------------------------------------------------------

ROW = {"age": 40.0, "income": 20.0, "city": "Bonn"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", 422),
        (b"[]", 422),
        (b'{"rows": [', 422),
        (b'{"rows": []}', 422),
        (b'{"rows": [NaN]}', 422),
        (b'{"rows": {"age": 1}}', 422),
        (json.dumps({"rows": [ROW], "seed": -1}).encode(), 422),
        (json.dumps({"rows": [ROW], "seed": "1"}).encode(), 422),
        (json.dumps({"rows": [ROW], "seed": True}).encode(), 422),
        (json.dumps({"rows": [ROW], "sed": 1}).encode(), 422),
        (json.dumps({"rows": [ROW], "num_samples": 10**6}).encode(), 422),
        (json.dumps({"rows": [ROW, [1, 2]]}).encode(), 422),
        (json.dumps({"rows": [dict(ROW, age=[1])]}).encode(), 422),
        (json.dumps({"rows": [dict(ROW, age=1e31)]}).encode(), 422),
        (json.dumps({"rows": [dict(ROW, age=10**400)]}).encode(), 422),
        (json.dumps({"rows": [[1, 2, 3]]}).encode(), 422),
        (json.dumps({"rows": [ROW] * 301}).encode(), 413),
        (b'{"rows": "' + b"x" * 2**20 + b'"}', 413),
        (b"[" * 100_000, 422),
    ],
)
def test_bad_bodies_are_refused_with_a_reason(client, content, expected):
    answer = client.post("/v1/models/people/score", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == expected, answer.text
    assert set(answer.json()) == {"reason", "row", "column"}
    assert len(answer.json()["reason"]) > 10


@pytest.mark.parametrize(("column", "cell"), [("age", ""), ("age", "NA"), ("age", "5"), ("city", ""), ("city", "nan")])
@pytest.mark.parametrize("question", ["score", "reconstruct", "impute"])
def test_cells_of_json_are_of_their_kind_and_null_where_empty(client, question, column, cell):
    found = ask(client, "people", question, 422, rows=[ROW, ROW | {column: cell}])
    assert (found["row"], found["column"]) == (1, column)
    assert "null" in found["reason"]
    ask(client, "people", question, 200, rows=[ROW, ROW | {column: None}])


def test_the_first_bad_row_and_its_column_are_named(client):
    rows = [dict(ROW), dict(ROW), dict(ROW, income=-2.0), dict(ROW, income=-3.0)]
    found = ask(client, "people", "score", 422, rows=rows)
    assert (found["row"], found["column"]) == (2, "income")
    found = ask(client, "numbers", "score", 422, rows=[[1.0] * 4, [1.0, "x", 1.0, 1.0]])
    assert found["row"] == 1
    found = ask(
        client, "images", "score", 422, rows=[np.zeros((1, 8, 8), int).tolist(), np.full((1, 8, 8), 300).tolist()]
    )
    assert found["row"] == 1


def test_paths_methods_and_media_that_there_are_not(client):
    assert client.post("/v1/models/nobody/score", json={"rows": [ROW]}).status_code == 404
    assert client.post("/v1/models/people/guess", json={"rows": [ROW]}).status_code == 404
    assert client.get("/nothing").status_code == 404
    wrong = client.get("/v1/models/people/score")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    other = client.post("/v1/models/people/score", content=b"<x/>", headers={"content-type": "text/xml"})
    assert other.status_code == 415
    pickled = io.BytesIO()
    np.save(pickled, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    kind = {"content-type": "application/x-npy"}
    assert client.post("/v1/models/numbers/score", content=pickled.getvalue(), headers=kind).status_code == 422
    csv_of_other = client.post("/v1/models/people/score", content=b"x,y\n1,2\n", headers={"content-type": "text/csv"})
    assert csv_of_other.status_code == 422
    assert "/tmp" not in csv_of_other.text


# --- About the service -----------------------------------------------------------------------------------------------


def test_every_example_of_the_document_is_answered(client):
    document = client.get("/openapi.json").json()
    asked = 0
    for path, operations in document["paths"].items():
        if "post" in operations:
            body = operations["post"]["requestBody"]["content"]["application/json"]["example"]
            answer = client.post(path, json=body)
            assert answer.status_code == 200, (path, answer.text)
            asked += 1
    assert asked >= 15


def test_models_say_what_they_take(client):
    models = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
    assert set(models) == {"people", "numbers", "images", "classes"}
    assert models["people"]["columns"] == ["age", "income", "city"]
    assert "classify" in models["classes"]["questions"]
    assert "classify" not in models["people"]["questions"]


def test_logs_hold_no_data_and_metrics_count(client, served):
    rows = [dict(ROW, income=31415.9265)] * 30
    ask(client, "people", "score", rows=rows)
    ask(client, "people", "score", 422, rows=[dict(ROW, city="Geheimstadt")])
    text = client.get("/metrics").text
    assert 'vaekit_requests_total{model="people",question="score",status="200"}' in text
    assert counted(text, 'vaekit_drift{column="income",model="people"}') > 0.1
    assert counted(text, 'vaekit_strange_rows_total{model="people"}') >= 30
    said = "".join(served.lines)
    assert "31415" not in said
    assert "Geheimstadt" not in said
    assert all(json.loads(line)["event"] for line in served.lines)


def test_a_token_is_asked_for(folder, tmp_path):
    (tmp_path / "token").write_text("open-sesame\n")
    with service(folder / "people", "--token-file", tmp_path / "token") as found:
        with httpx.Client(base_url=found.url) as client:
            assert client.get("/health").status_code == client.get("/ready").status_code == 200
            for path in ("/metrics", "/openapi.json", "/v1/models"):
                assert client.get(path).status_code == 401
            for wrong in ("Bearer open-sesam", "Basic open-sesame", "Bearer", "Bearer \xe4"):
                answer = client.get("/v1/models", headers={"authorization": wrong.encode("latin-1")})
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
            right = {"authorization": "Bearer open-sesame"}
            assert client.get("/v1/models", headers=right).status_code == 200
            assert "securitySchemes" in client.get("/openapi.json", headers=right).json()["components"]
        assert "sesame" not in "".join(found.lines)


@contextmanager
def without_permission(path):
    """A path that this process may not read; root gives up its rights for that."""
    if os.geteuid() == 0:
        path.chmod(0o700)
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
        return
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(0o700)


def test_a_service_that_cannot_start_says_why_in_one_line(folder, tmp_path, capsys):
    def refused(*arguments):
        capsys.readouterr()
        code = cli.run(["serve", *map(str, arguments)])
        lines = capsys.readouterr().err.strip().splitlines()
        assert code in (1, 2), lines
        assert len(lines) == 1, lines
        assert lines[0].startswith("vaekit: ")
        return lines[0]

    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text((folder / "people" / "config.json").read_text())
    (damaged / "model.safetensors").write_bytes(b"nothing")
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        assert "in use" in refused(folder / "people", "--port", door.getsockname()[1])
    assert "nobody" in refused(folder / "nobody", "--port", 0)
    assert "damaged" in refused(damaged, "--port", 0)
    assert "two runs are called people" in refused(folder / "people", folder / "people", "--port", 0)
    assert "token" in refused(folder / "people", "--port", 0, "--token-file", tmp_path / "none")
    assert "no host" in refused(folder / "people", "--port", 0, "--host", "no.such.host.invalid")
    with without_permission(damaged):
        assert "ermission" in refused(damaged, "--port", 0)
