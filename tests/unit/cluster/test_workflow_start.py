"""Flags of configuration given twice, and names that nothing has or Snakemake misreads."""

from contextlib import nullcontext

import pytest

from parrot.cluster.workflow_start import check_flags, check_inputs
from parrot.config.settings import load_config, overlay
from parrot.config.suite import Suite
from parrot.errors import UserError, nearest

ONE, OTHER = "config/paper.yaml", "config/single_gpu.yaml"


@pytest.mark.parametrize(
    ("words", "twice"),
    [
        (["--configfile", ONE, "--configfile", OTHER, "--", "all"], "--configfile"),
        ([f"--configfile={ONE}", "-n", f"--configfiles={OTHER}"], "--configfile"),
        (["-C", "seed=1", "--config", "scale=mini"], "--config"),
        (["--configfile", ONE, OTHER, "--config", "seed=1", "--", "all"], None),
        (["--configfile", ONE, "--", "--configfile", OTHER], None),
    ],
)
def test_a_flag_whose_first_files_snakemake_would_forget(words, twice):
    expected = pytest.raises(UserError, match=f"^{twice} is given twice; .*: {twice} ") if twice else nullcontext()
    with expected:
        check_flags(words)


def test_a_file_name_that_snakemake_would_take_for_a_pattern():
    run = Suite(overlay(load_config("config/config.yaml"), {"data_pin": "{run}.dvc"})).run("parrot")
    with pytest.raises(UserError, match=r"^run parrot: \{run\}\.dvc: expected a file name without braces"):
        check_inputs(run)


def test_nearest_names():
    known = ["parrot", "no_experts", "experts_1", "experts_2", "experts_4", "experts_6", "lora"]
    assert nearest("lorra", known) == "did you mean lora?"
    assert nearest("experts_5", known) == "did you mean experts_6, experts_4 or experts_2?"
    assert nearest("xyz", known) == f"known are {', '.join(known)}"
