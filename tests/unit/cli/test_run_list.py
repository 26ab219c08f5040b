"""`parrot runs`: every shipped run fits both scales, and what does not fit is one line each."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from parrot.cli.app import app


@pytest.mark.parametrize(
    ("configfile", "scale"),
    [
        ([], "mini"),
        (
            ["--configfile", "config/paper.yaml"],
            "paper; left out, as their data is not published: parrot_all_captions",
        ),
    ],
    ids=["mini", "paper"],
)
def test_every_shipped_run_fits_both_scales(configfile: list[str], scale: str):
    done = CliRunner().invoke(app, ["runs", "--check", *configfile])
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"parrot: all is well: 42 runs and 5 families fit scale {scale}\n"


def test_what_does_not_fit_is_told_once_and_stops_a_check(tmp_path: Path):
    (tmp_path / "few.yaml").write_text("model: {num_experts: 2}\n")
    done = CliRunner().invoke(app, ["runs", "--check", "--configfile", str(tmp_path / "few.yaml")])
    expected = "config/runs.yaml: top_k_3: model: top_k: expected at most num_experts, 2, found 3"
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", f"parrot: error: {expected}\n")
    listed = CliRunner().invoke(app, ["runs", "--configfile", str(tmp_path / "few.yaml")])
    assert listed.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in listed.stdout.splitlines())
    assert lines["top_k_3"] == lines["top_k"] == expected
    assert lines["seeds"] == "family of seeds_0, seeds_1, seeds_2; compared with nothing"
