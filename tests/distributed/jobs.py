"""Trainings as jobs of two processes on cores, which a test can disturb."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from parrot.config.hardware import TrainingHardware
from parrot.config.stages import AlignSettings, TuneSettings

ACT = Path(__file__).with_name("act.py")
SECONDS = 600


def start(
    settings: AlignSettings | TuneSettings,
    folder: Path,
    output: Path,
    hardware: TrainingHardware,
    processes: int = 2,
    deed: tuple[str, int, int | str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Train a stage into `output`, beside its work folder; `deed`: what happens, when, to which process or "every"."""
    output.mkdir(parents=True, exist_ok=True)
    stage = "align" if isinstance(settings, AlignSettings) else "tune"
    given = {"settings": settings.model_dump_json(), "hardware": hardware.model_dump_json()}
    for name, text in given.items():
        (output / f"{name}.json").write_text(text)
    files = [f"--{name}={output}/{name}.json" for name in given]
    projector = [f"--projector={folder}/aligned/projector"] if stage == "tune" else []
    command = ["train", stage, *files, *projector, f"--output={output}", f"--work={output}.work"]
    if deed is None:
        launcher = ["-m", "parrot", "launch", f"--gpus={processes}", f"--threads={processes}", "--device=cpu", "--"]
    else:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        launcher = [*torchrun, str(ACT), *map(str, deed)]
    return subprocess.run([sys.executable, *launcher, *command], capture_output=True, text=True, timeout=SECONDS)


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "time"} for row in rows]


def provenance(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "provenance.json").read_text())


def checkpoints(output: Path) -> set[str]:
    """Names of the checkpoints that `output`'s job left."""
    return {path.parent.name for path in output.with_name(f"{output.name}.work").rglob("complete")}


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model.safetensors")
