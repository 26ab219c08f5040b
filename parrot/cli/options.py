"""Options that commands share, and what they are read into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from parrot.config import limits
from parrot.config.base import validate
from parrot.config.hardware import TrainingHardware
from parrot.config.runs import DEFAULT_CONFIG, Run, Suite
from parrot.errors import UserError
from parrot.io.files import read_json

RunName = Annotated[str | None, typer.Option("--run", help="run of config/runs.yaml")]
ConfigFiles = Annotated[
    list[str] | None, typer.Option("--configfile", help="config files laid over config/config.yaml, in order")
]
Json = Annotated[Path | None, typer.Option("--settings", help="the stage's settings as a JSON file, in place of --run")]
Output = Annotated[Path, typer.Option(help="where results go")]
Work = Annotated[Path, typer.Option(help="where checkpoints and tokenised data are kept")]
MicroBatch = Annotated[
    int | None,
    typer.Option(help="samples a process takes at once, in place of the hardware's", min=1),
]
HardwareFile = Annotated[
    Path | None,
    typer.Option("--hardware", help="the stage's hardware as a JSON file; default with --run: the config's"),
]
TrackedAs = Annotated[
    str | None, typer.Option(help="show the training in MLflow while it goes on, as the run of this tag parrot.id")
]
Fresh = Annotated[
    bool, typer.Option("--fresh/--resume", help="start anew, or go on from the latest checkpoint of the same settings")
]


def load_suite(configfile: list[str] | None) -> Suite:
    """Return the suite of the config files, whose limits hold from here on."""
    suite = Suite.load((*DEFAULT_CONFIG, *(configfile or ())))
    limits.use(suite.config.limits)
    return suite


def read_settings(kind: Any, path: Path) -> Any:
    """Return the settings of `kind` in a JSON file."""
    return validate(kind, read_json(path), str(path))


def stage_settings(
    kind: type,
    stage: str | Callable[[Run], Any],
    run: str | None,
    configfile: list[str] | None,
    settings: Path | None,
) -> Any:
    """Return a stage's settings, of a named run or from a file.

    `stage` is a property of runs, or a function of one.

    Raises:
        UserError: both or neither of `run` and `settings` are given.
    """
    if run is not None and settings is None:
        named = load_suite(configfile).run(run)
        return getattr(named, stage) if isinstance(stage, str) else stage(named)
    if settings is not None and run is None:
        return read_settings(kind, settings)
    raise UserError("expected exactly one of --run and --settings")


def training_hardware(
    stage: Literal["align", "tune"],
    file: Path | None,
    micro_batch: int | None,
    run: str | None,
    configfile: list[str] | None,
) -> TrainingHardware:
    """Return the file's or the config's hardware, with another micro-batch where one is given.

    Raises:
        UserError: settings come from a file, which holds no hardware, and `file` is missing.
    """
    if file is not None:
        hardware = read_settings(TrainingHardware, file)
    elif run is not None:
        hardware = getattr(load_suite(configfile).run(run).config.hardware, stage)
    else:
        raise UserError("expected --hardware with --settings")
    return hardware if micro_batch is None else hardware.model_copy(update={"micro_batch": micro_batch})
