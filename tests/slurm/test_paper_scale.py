"""What `snakemake --profile slurm all` is about to submit, listed with the cluster's controller running."""

import re
import time

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ASKED = {
    "align": {"nodes=1", "gpu=8", "runtime=1440", "mem_mb=300000"},
    "tune": {"nodes=1", "gpu=8", "runtime=1440", "mem_mb=400000"},
    "predict": {"gpu=8", "runtime=720", "mem_mb=64000"},
    "score": {"runtime=60", "mem_mb=8000"},
    "report": {"runtime=60", "mem_mb=16000"},
    "predictions_page": {"runtime=60", "mem_mb=8000"},
}


@pytest.fixture(scope="module")
def listed(project):
    started = time.monotonic()
    done = project.run("snakemake", "--profile", "slurm", "--dry-run", "all")
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"the dry run at paper scale took {time.monotonic() - started:.1f} s")
    return done.stdout


@pytest.mark.parametrize("rule", ASKED)
def test_every_job_says_what_it_asks_for(listed, rule):
    blocks = re.findall(rf"^rule {rule}:\n((?:    .*\n)+)", listed, re.MULTILINE)
    (count,) = re.findall(rf"^{rule} +(\d+)$", listed, re.MULTILINE)[:1]
    assert len(blocks) == int(count) > 0
    for block in blocks:
        (resources,) = re.findall(r"^    resources: (.*)$", block, re.MULTILINE)
        assert ASKED[rule] <= set(resources.split(", "))
        assert ("--signal=TERM@600" in resources) is (rule in ("align", "tune"))
