"""The paper's configuration from an empty folder to its tables, on a miniature of the paper's data."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.loopback import Loopback, broken, loopback, times
from tests.helpers.project import Project, new_project
from tests.rehearsal.paper_data import IMAGES, LOST, publish

COMMAND = ("--configfile", "config/paper.yaml", "config/rehearsal.yaml")
KILLS = 5


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with loopback() as one:
        for name, value in {"HF_ENDPOINT": one.url, "HF_HUB_OFFLINE": "0", "no_proxy": "127.0.0.1"}.items():
            monkeypatch.setenv(name, value)
        yield one


@pytest.fixture
def project(server: Loopback, tmp_path: Path) -> Project:
    project = new_project(tmp_path / "project")
    shutil.copy(Path(__file__).with_name("rehearsal.yaml"), project / "config")
    publish(project, server)
    return project


def check(project: Project) -> None:
    """What a researcher finds in the end."""
    data = project / "data/paper"
    archives = [path for path in (data / "images").rglob("*") if path.suffix == ".zip"]
    assert len(archives) == len(IMAGES)
    assert sum(path.is_file() for path in data.rglob("*")) < 100
    assert not list(data.rglob("*.part")) + list(data.rglob("*.bin"))
    (report,) = (project / "results/paper/data").glob("*.json")
    found = json.loads(report.read_text())
    assert found["problems"] == []
    assert found["checked"]["sharegpt4v_zh"]["accepted_losses"] == 1
    assert found["checked"]["llava_finetune"]["with_image"] < found["checked"]["llava_finetune"]["samples"]
    assert found["checked"]["visual_genome_2"]["members"] == IMAGES["visual_genome_2"][0] + 170
    with open(project / "results/paper/scores.csv", newline="", encoding="utf-8") as file:
        scores = {(row["benchmark"], row["language"]) for row in csv.DictReader(file) if row["kind"] == "all"}
    assert {language for benchmark, language in scores if benchmark == "MMMB"} >= {"en", "zh", "pt", "ar", "tr", "ru"}
    assert len({benchmark for benchmark, _ in scores}) == 8
    table = (project / "results/paper/tables/table1.md").read_text(encoding="utf-8")
    assert "Parrot (558K captions)" in table
    page = (project / "results/paper/report.html").read_text(encoding="utf-8")
    assert page.index("stage 1: 558K of the paper") < page.index("<h1>")


def share(project: Project, server: Loopback) -> None:
    """Pin the data, put it into a remote, lose it and take it from there."""
    settings = ("--configfile", COMMAND[1], "--configfile", COMMAND[2])
    pin = project / "data/paper.dvc"
    done = project.run("parrot", "fetch", *settings, "--write-pin", "data/paper.dvc")
    assert done.returncode == 0, done.stderr
    for command in (("remote", "add", "-d", "shared", str(project.folder.parent / "remote")), ("push", "-q", str(pin))):
        assert project.run("dvc", *command).returncode == 0
    before = {path.relative_to(project.folder): path.stat().st_size for path in (project / "data/paper").rglob("*.*")}
    shutil.rmtree(project / "data/paper")
    shutil.rmtree(project / ".dvc/cache")
    requests = len(server.requests)
    done = project.run("parrot", "fetch", *settings, "--pin", "data/paper.dvc")
    assert done.returncode == 0, done.stderr
    assert len(server.requests) == requests
    after = {path.relative_to(project.folder): path.stat().st_size for path in (project / "data/paper").rglob("*.*")}
    assert after.keys() - before.keys() <= {path for path in after if path.suffix == ".index"}
    assert {path: size for path, size in before.items() if path.suffix != ".index"}.items() <= after.items()


def test_from_an_empty_folder_to_the_tables(project: Project, server: Loopback) -> None:
    """One host is overloaded and one breaks off: their mirrors and a resumption help."""
    gqa = "/downloads.cs.stanford.edu/nlp/data/gqa/images.zip"
    server.faults[gqa] = lambda request: request.refuse(404)
    coco = "/images.cocodataset.org/zips/train2017.zip"
    server.faults[coco] = times(3, broken(server.files[coco]))
    done = project.snakemake(*COMMAND, "--", "all")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    check(project)
    requests = len(server.requests)
    again = project.snakemake(*COMMAND, "--", "all")
    assert "Nothing to be done" in again.stderr
    assert len(server.requests) == requests
    share(project, server)
    planned = project.run("parrot", "plan", "all", *COMMAND[:1], COMMAND[1], COMMAND[0], COMMAND[2])
    assert planned.stdout.startswith("stage 1: 558K of the paper's 1,215K captions; two sets are not published\n")


def test_images_that_no_archive_has_stop_before_any_is_fetched(project: Project, server: Loopback) -> None:
    path = "/datasets/AIDC-AI/Parrot-dataset/resolve"
    (name,) = [each for each in server.files if each.startswith(path) and each.endswith("sft_ru_14k.json")]
    samples = json.loads(server.files[name])
    for sample in samples[:3]:
        sample["image"] = f"multilingual_sft/{sample['image']}"
    content = json.dumps(samples).encode()
    server.add_repository(
        "AIDC-AI/Parrot-dataset", {"sharegpt_4v/sharegpt4v_sft_ru_14k.json": content}, "dataset", commit="e5e4906"
    )
    done = project.run("parrot", "fetch", "--configfile", COMMAND[1], "--configfile", COMMAND[2])
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert "sharegpt4v_sft_ru_14k.json: image: expected paths that begin with coco/train2017/ or " in line
    assert "found 1 in multilingual_sft/" in line
    assert not list((project / "data/paper/images").rglob("*.zip"))


@pytest.mark.killed
def test_killed_five_times(project: Project, server: Loopback) -> None:
    for path, content in server.files.items():
        if len(content) > 5000 and not path.endswith(".json"):
            server.faults[path] = times(1, lambda request, content=content: request.send(content, pause=0.02))
    draw = random.Random(0)
    for _ in range(KILLS):
        command = ["snakemake", "--cores", "2", "--rerun-incomplete", *COMMAND, "--", "all"]
        with subprocess.Popen(
            command,
            cwd=project.folder,
            env=project.environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            time.sleep(15 + draw.random() * 30)
            os.killpg(process.pid, signal.SIGKILL)
        project.snakemake("--unlock", *COMMAND)
    done = project.snakemake("--rerun-incomplete", *COMMAND, "--", "all")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    check(project)
    assert LOST
