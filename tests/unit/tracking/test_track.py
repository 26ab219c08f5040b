"""Records into an MLflow store: once, whole, and never in the way."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import re
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.utils.validation import _validate_metric_name

from parrot.cluster.doctor.mlflow import check_store
from parrot.config.suite import Suite
from parrot.errors import UserError
from parrot.report.build import build
from parrot.tracking.identity import TrackedRun, tracked_run
from parrot.tracking.importer import import_runs, init_store
from parrot.tracking.store import EXPERIMENT, connect, original, segment
from tests.helpers import tiny_results

RUNS = [
    TrackedRun(
        name=run.name,
        scale="tiny",
        seed=0,
        stage1_key=run.stage1_key,
        params={"model.num_experts": str(run.num_experts)},
    )
    for run in tiny_results.RUNS
]
PARTS = ("", "/tune", "/MMMB", "/MMBench_dev")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("records")
    tiny_results.make(root)
    return root / "results"


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A store's file right after it was made; making one takes MLflow seconds."""
    folder = tmp_path_factory.mktemp("store")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert init_store() is not None
    finally:
        os.chdir(before)
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def store(tmp_path: Path, empty_store: bytes, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return os.environ["MLFLOW_TRACKING_URI"]


@pytest.fixture
def dead_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Port 9 (discard) is served nowhere."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


def runs_of(store: str) -> dict[str, MlflowRun]:
    client = MlflowClient(store)
    found = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    assert len({run.data.tags["parrot.id"] for run in found}) == len(found)
    return {run.data.tags["parrot.id"]: run for run in found}


def history(store: str, run: MlflowRun, metric: str) -> list[tuple[int, int, float]]:
    points = MlflowClient(store).get_metric_history(run.info.run_id, metric)
    return sorted((point.step, point.timestamp, point.value) for point in points)


def test_runs_become_parents_with_children_and_share_one_stage_1(results: Path, store: str) -> None:
    assert import_runs(RUNS, results)
    runs = runs_of(store)
    expected = {f"tiny/{run.name}/seed0{part}" for run in RUNS for part in PARTS}
    assert runs.keys() == expected | {f"tiny/align/{tiny_results.KEY}"}
    for run in RUNS:
        parent = runs[f"tiny/{run.name}/seed0"]
        assert parent.data.tags["stage1_key"] == tiny_results.KEY
        assert parent.data.params == run.params
        for part in PARTS[1:]:
            child = runs[f"tiny/{run.name}/seed0{part}"]
            assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
            assert child.info.status == "FINISHED"


def test_a_run_carries_its_curves_accuracies_data_pin_and_commit(results: Path, store: str) -> None:
    import_runs(RUNS, results)
    runs = runs_of(store)
    curve = history(store, runs["tiny/parrot/seed0/tune"], "loss")
    assert curve == [(step, 1_700_000_000_000 + 1000 * step, 4.0 / step) for step in range(1, 5)]
    assert len(history(store, runs["tiny/parrot/seed0/tune"], "eval_loss_ar")) == 2
    parent = runs["tiny/parrot/seed0"]
    assert parent.data.metrics["MMMB/twemoji/ru"] == 75.0
    assert runs["tiny/parrot/seed0/MMMB"].data.metrics["MMMB/shuffled/twemoji/ru"] == 12.5
    assert parent.data.metrics["MMMB/twemoji/non_english"] == 75.0
    assert parent.data.metrics["MMMB/four_option/twemoji/non_english"] == 75.0
    assert not any("/all/" in name for name in parent.data.metrics), "emoji sets are not pooled"
    assert history(store, parent, "loss") == curve
    assert "- MMMB/twemoji/non_english: 75.0" in parent.data.tags["mlflow.note.content"].splitlines()
    assert parent.data.tags["mlflow.source.git.commit"] == "f" * 40
    assert [(i.dataset.name, i.dataset.digest) for i in parent.inputs.dataset_inputs] == [
        ("data.dvc: data/mini", "d" * 32)
    ]
    assert (parent.info.start_time, parent.info.end_time) == (1_700_000_001_000, 1_700_000_004_500)


def test_the_page_opens_on_the_parameters_that_differ(
    results: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    same = [run.model_copy(update={"params": run.params | {"tune.epochs": "1"}}) for run in RUNS]
    import_runs(same, results)
    experiment = MlflowClient(store).get_experiment_by_name(EXPERIMENT)
    view = json.loads(experiment.tags["mlflow.sharedViewState.differences"])
    assert view["selectedColumns"] == ["params.`model.num_experts`"]
    assert f"/#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=differences" in capsys.readouterr().err


def test_a_second_import_changes_nothing(results: Path, store: str) -> None:
    import_runs(RUNS, results)
    before = runs_of(store)
    curve = history(store, before["tiny/english/seed0/tune"], "loss")
    assert import_runs(RUNS, results)
    after = runs_of(store)
    assert {name: run.info.run_id for name, run in after.items()} == {n: run.info.run_id for n, run in before.items()}
    assert history(store, after["tiny/english/seed0/tune"], "loss") == curve


def test_a_changed_record_takes_the_place_of_the_old_and_leaves_others_alone(tmp_path: Path, store: str) -> None:
    tiny_results.make(tmp_path)
    results = tmp_path / "results"
    import_runs(RUNS, results)
    before = runs_of(store)
    path = results / "parrot/metrics.jsonl"
    path.write_text(path.read_text().replace('"loss": 4.0,', '"loss": 5.0,'))
    import_runs(RUNS, results)
    after = runs_of(store)
    assert after.keys() == before.keys()
    changed = {name for name in after if after[name].info.run_id != before[name].info.run_id}
    assert changed == {"tiny/parrot/seed0", "tiny/parrot/seed0/tune"}, "both have the curve"
    assert history(store, after["tiny/parrot/seed0/tune"], "loss")[0][2] == 5.0


def test_an_import_that_was_cut_off_is_completed(
    results: Path, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    requests = itertools.count()
    log_batch = MlflowClient.log_batch

    def fails_in_the_middle(self: MlflowClient, *arguments: Any, **values: Any) -> None:
        if next(requests) == 9:
            raise ConnectionError("cut off")
        log_batch(self, *arguments, **values)

    with monkeypatch.context() as patch:
        patch.setattr("parrot.tracking.store.POINTS_PER_BATCH", 4)
        patch.setattr(MlflowClient, "log_batch", fails_in_the_middle)
        assert not import_runs(RUNS[:1], results)
    assert "accepted nothing: cut off" in capsys.readouterr().err
    before = runs_of(store)
    assert all(run.info.status == "FINISHED" for run in before.values()), "none stays half filled"
    assert import_runs(RUNS[:1], results)
    after = runs_of(store)
    assert len(after) == len(PARTS) + 1
    assert {name: after[name].info.run_id for name in before} == {name: before[name].info.run_id for name in before}
    curve = history(store, after[f"tiny/align/{tiny_results.KEY}"], "loss")
    assert [(step, value) for step, _, value in curve] == [(step, 4.0 / step) for step in range(1, 5)]


def test_tables_and_figures_are_artefacts_and_follow_a_new_report(
    results: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = tmp_path / "by_target" / "target"
    for name in ("report.html", "tables/table1.csv", "figures/fig7a.png"):
        (report / name).parent.mkdir(parents=True, exist_ok=True)
        (report / name).write_text("first")
    client = MlflowClient(store)
    for content in ("first", "second"):
        (report / "tables/table1.csv").write_text(content)
        import_runs(RUNS[:1], results, report)
        run = runs_of(store)["tiny/parrot/seed0"].info.run_id
        assert {file.path for file in client.list_artifacts(run)} == {
            "provenance.json", "metrics.jsonl", "scores.csv", "report.html", "target",
        }  # fmt: skip
        assert Path(client.download_artifacts(run, "target/tables/table1.csv", str(tmp_path))).read_text() == content


def test_a_reports_page_links_to_nothing_that_the_store_lacks(results: Path, store: str, tmp_path: Path) -> None:
    report = tmp_path / "report"
    settings = tiny_results.make(tmp_path)
    settings = settings.model_copy(update={"items": {"table1": settings.items["table1"]}})
    build(settings, tiny_results.score_files(tmp_path), tmp_path / "results", report)
    linked = re.compile(r'href="[^"#]')
    assert linked.search((report / "report.html").read_text())
    import_runs(RUNS[:1], results, report)
    run = runs_of(store)["tiny/parrot/seed0"].info.run_id
    page = Path(MlflowClient(store).download_artifacts(run, "report.html", str(tmp_path))).read_text()
    assert not linked.search(page)
    assert "predictions.html among each run's artefacts shows its predictions." in page
    assert page.count("<section") == (report / "report.html").read_text().count("<section")


def test_processes_that_make_the_store_together_wait_for_each_other(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(experiment_of, [uri] * 3) == ["1"] * 3


def experiment_of(uri: str) -> str:
    return connect(uri).experiment


@pytest.mark.usefixtures("dead_server")
def test_a_server_that_does_not_answer_costs_one_line(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_runs(RUNS, results) is False
    assert init_store() is None
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("parrot: warning: MLflow at http://127.0.0.1:9 accepted nothing") for line in lines)


@pytest.mark.parametrize("uri", ["http://[::1", "http://127.0.0.1:99999"])
def test_an_address_that_is_none_costs_one_line(uri: str, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert init_store() is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"parrot: warning: MLflow at {uri} accepted nothing: expected an http or https address")
    assert check_store(uri, elsewhere=False).status == "failed"


@pytest.mark.parametrize("make", [lambda path: path.write_bytes(b"garbage" * 500), Path.mkdir])
def test_a_file_that_is_no_store_is_named_with_the_cure(make, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    make(tmp_path / "mlflow.db")
    assert init_store() is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"; move {tmp_path}/mlflow.db away, and `parrot track import` rebuilds it")


@pytest.mark.usefixtures("dead_server")
def test_a_bad_record_is_an_error_whatever_the_store(tmp_path: Path) -> None:
    tiny_results.make(tmp_path)
    (tmp_path / "results/parrot/metrics.jsonl").write_text('{"loss": 1.0}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 1: expected a JSON object of numbers, with a step"):
        import_runs(RUNS, tmp_path / "results")


def test_parameters_are_the_settings_worth_comparing() -> None:
    run = tracked_run(Suite.load().run("english"))
    assert run.params["model.num_experts"] == "0"
    assert run.params["data.languages"] == "en"
    assert "tune.learning_rate" in run.params
    assert not any(name.startswith(("hardware", "report")) for name in run.params)
    assert json.loads(run.model_dump_json())["stage1_key"] == run.stage1_key
    assert run.titles == {"MMMB": "mini-MMMB", "MMBench_dev": "mini-MMBench"}


def test_a_run_without_training_has_its_accuracies_alone(tmp_path: Path, store: str) -> None:
    tiny_results.make(tmp_path)
    tiny_results.add_asked(tmp_path)
    asked = TrackedRun(name="asked", scale="tiny", seed=0, stage1_key=None, params={"model.hf": "some/model"})
    for _ in range(2):
        assert import_runs([asked], tmp_path / "results")
        runs = runs_of(store)
        assert runs.keys() == {"tiny/asked/seed0", "tiny/asked/seed0/MMMB", "tiny/asked/seed0/MMBench_dev"}
        parent = runs["tiny/asked/seed0"]
        assert parent.data.params == {"model.hf": "some/model"}
        assert "stage1_key" not in parent.data.tags
        assert parent.data.metrics["MMMB/twemoji/ru"] == 25.0
        written = (tmp_path / "results/asked/scores.csv").stat().st_mtime
        assert history(store, parent, "MMMB/twemoji/ru") == [(0, round(1000 * written), 25.0)]


def test_a_model_asked_as_it_is_is_tracked_by_its_name() -> None:
    tracked = tracked_run(Suite.load().run("qwen2_vl"))
    assert tracked.stage1_key is None
    assert tracked.params["model.hf"] == "qwen2_vl_7b"
    assert tracked.params["evaluate.dtype"] == "bf16"
    assert {name.split(".")[0] for name in tracked.params} == {"model", "evaluate"}


NAMES = [
    "Flickr (CC BY)",
    "twemoji",
    "a/b",
    "../x",
    "..",
    "",
    "::",
    ":28:",
    "x:28",
    ":28(",
    "a: b",
    "图片",
    "50 %",
    "tab\there",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_becomes_one_that_mlflow_takes_and_can_be_read_back(name: str) -> None:
    safe = segment(name)
    _validate_metric_name(f"mini-MMMB/{safe}/en")
    assert "/" not in safe
    assert original(safe) == name


def test_usual_names_stay_as_they_are() -> None:
    assert [segment(name) for name in ("twemoji", "MMBench_dev", "data.dvc: data")] == [
        "twemoji", "MMBench_dev", "data.dvc: data",
    ]  # fmt: skip


def test_an_emoji_set_of_any_name_is_imported(tmp_path: Path, store: str) -> None:
    tiny_results.make(tmp_path)
    scores = tmp_path / "results/parrot/scores.csv"
    scores.write_text(scores.read_text(encoding="utf-8").replace("twemoji", "Flickr (CC BY)"), encoding="utf-8")
    assert import_runs(RUNS[:1], tmp_path / "results")
    parent = runs_of(store)["tiny/parrot/seed0"]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["MMMB/Flickr :28:CC BY:29:/ru"] == 75.0


def test_a_name_that_is_too_long_is_refused_before_anything_is_sent(tmp_path: Path, store: str) -> None:
    tiny_results.make(tmp_path)
    scores = tmp_path / "results/parrot/scores.csv"
    scores.write_text(scores.read_text(encoding="utf-8").replace("twemoji", "x" * 250), encoding="utf-8")
    with pytest.raises(UserError, match=r"tiny/parrot/seed0: MLflow allows names of at most 250 characters, found 2"):
        import_runs(RUNS[:1], tmp_path / "results")
    assert "tiny/parrot/seed0" not in runs_of(store)


def test_artefacts_go_along_when_the_folder_is_moved(
    results: Path, empty_store: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    (before / "mlflow.db").write_bytes(empty_store)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(before)
    import_runs(RUNS[:1], results)
    monkeypatch.chdir(tmp_path)
    before.rename(after)
    monkeypatch.chdir(after)
    import_runs(RUNS[:2], results)
    client, runs = MlflowClient(f"sqlite:///{after}/mlflow.db"), runs_of(f"sqlite:///{after}/mlflow.db")
    for name in ("tiny/parrot/seed0", "tiny/no_experts/seed0"):  # from before it was moved, and after
        assert runs[name].info.artifact_uri.startswith((after / "mlruns").as_uri())
        assert "scores.csv" in {file.path for file in client.list_artifacts(runs[name].info.run_id)}
    assert not before.exists()
