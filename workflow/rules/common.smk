"""The runs of this scale, and what the rules share. One clear line, before any job, when the configuration is wrong."""

import os
import re
import sys
from pathlib import Path

from parrot.config import ConfigError
from parrot.digest import canonical, code_digest, key
from parrot.report.settings import report_stage
from parrot.runs import Suite

# Jobs call the `parrot` of the environment that runs Snakemake, whether or not that is activated.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def stop(message):
    sys.exit(f"parrot: error: {message}")


def load_suite():
    try:
        suite = Suite(config)
        for name in suite.overrides:
            suite.run(name).check()
        for name in (None, *suite.targets):
            report_stage(suite, name)
    except ConfigError as error:
        stop(error)
    if Path("results").exists() and not Path("results").is_dir():
        stop("results is a file; results are written to a folder of that name")
    return suite


def refuse_unknown_targets(known):
    """A word that is no target is answered with the list of targets; a path is left to Snakemake."""
    for target in workflow.dag_settings.targets if workflow.dag_settings else ():
        if os.sep not in target and target not in known:
            stop(f"unknown target {target}; known are all, align, tables, figures, {', '.join(suite.targets)}")


def one_of(names):
    """A wildcard constraint; without any name one that nothing matches."""
    return "|".join(map(re.escape, names)) or "(?!)"


def work_of(settings, stage):
    """Checkpoints' folder, named by all that decides the training, so that a stale one is never resumed."""
    return f"<work>/{stage}/{key([canonical(settings), code_digest('parrot.train.recipe')])}"


suite = load_suite()
hardware = suite.config.hardware
