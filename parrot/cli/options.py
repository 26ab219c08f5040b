"""Options that commands share, and the objects that they are parsed into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from parrot.config import limits
from parrot.config.base import validate
from parrot.config.hardware import TrainingHardware
from parrot.config.runs import Run
from parrot.config.suite import DEFAULT_CONFIG, Suite
from parrot.errors import UserError
from parrot.io.files import read_json

RunName = Annotated[str | None, typer.Option("--run", help="name of a run in config/runs.yaml")]
ConfigFiles = Annotated[
    list[str] | None, typer.Option("--configfile", help="config files merged over config/config.yaml, in order")
]
Json = Annotated[Path | None, typer.Option("--settings", help="the stage's settings as a JSON file, in place of --run")]
Output = Annotated[Path, typer.Option(help="where to write results")]
Work = Annotated[Path, typer.Option(help="folder of checkpoints and tokenised data")]
MicroBatch = Annotated[
    int | None,
    typer.Option(help="samples per process and forward pass; overrides the hardware's micro_batch", min=1),
]
HardwareFile = Annotated[
    Path | None,
    typer.Option("--hardware", help="the stage's hardware as a JSON file; default with --run: the config's"),
]
TrackedAs = Annotated[
    str | None, typer.Option(help="log the training to MLflow while it runs, under this parrot.id tag")
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh/--resume", help="start from scratch, or resume from the latest checkpoint with the same settings"
    ),
]


def load_suite(configfile: list[str] | None) -> Suite:
    """Return the suite of the config files, and apply its limits to this process."""
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
    """Return the hardware of the file or the config, with `micro_batch` in place of its own if given.

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
