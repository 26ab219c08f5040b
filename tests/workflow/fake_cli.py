"""Stands in for parrot/cli/app.py in a copy of the repository: every stage writes what its rule declares, at once."""

import json
import signal
import sys
import time
from pathlib import Path


def save_when_told():
    """Like a training that is pre-empted: say so, save, leave."""

    def save(*_):
        print("saving", flush=True)
        time.sleep(0.5)
        print("saved", flush=True)
        sys.exit(143)

    signal.signal(signal.SIGTERM, save)
    print("training", flush=True)
    time.sleep(60)


def main():
    arguments = sys.argv[1:]
    if arguments[0] == "launch":
        arguments = arguments[arguments.index("--") + 1 :]
    option = {name: value for name, value in zip(arguments, arguments[1:], strict=False) if name.startswith("--")}
    command = " ".join(arguments[:2]) if arguments[0] in ("train", "report", "track") else arguments[0]
    output = Path(option.get("--output", "."))
    broken = Path("break", command.replace(" ", "_"))
    if broken.exists():
        print(broken.read_text(), file=sys.stderr)
        sys.exit(1)
    if Path("hang", command.replace(" ", "_")).exists():
        save_when_told()
    files = {
        "fetch": [option.get("--report")],
        "train align": [output / name for name in ("projector/model.safetensors", "projector/config.json")]
        + [output / name for name in ("metrics.jsonl", "provenance.json")],
        "train tune": [output / name for name in ("model/model.safetensors", "metrics.jsonl", "provenance.json")],
        "predict": [output / "MMMB_en.tsv"],
        "score": [output, output.parent / "graded.csv"],
        "report scores": [output],
        "report build": [],
        "report predictions": [output],
        "track init": ["mlflow.db"],
        "track import": [],
    }[command]
    if command == "report build":
        print("what came out")
        from parrot.report.settings import ReportStage

        files = [
            output / name
            for name in ReportStage.model_validate(json.loads(Path(option["--settings"]).read_text())).outputs()
        ]
    for file in map(Path, files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{time.time_ns()} {arguments}\n")
