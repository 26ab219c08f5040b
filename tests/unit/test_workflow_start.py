"""Flags of configuration given twice, and names that nothing has."""

from contextlib import nullcontext

import pytest

from parrot.config import ConfigError
from parrot.names import nearest
from parrot.workflow_start import check_flags

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
    expected = pytest.raises(ConfigError, match=f"^{twice} is given twice; .*: {twice} ") if twice else nullcontext()
    with expected:
        check_flags(words)


def test_nearest_names():
    known = ["parrot", "no_experts", "experts_1", "experts_2", "experts_4", "experts_6", "lora"]
    assert nearest("lorra", known) == "did you mean lora?"
    assert nearest("experts_5", known) == "did you mean experts_6, experts_4 or experts_2?"
    assert nearest("xyz", known) == f"known are {', '.join(known)}"
