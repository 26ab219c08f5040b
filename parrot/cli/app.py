"""The `parrot` command: one command a stage, each a thin call of the stage's module, imported when it is asked for."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from parrot.cli.chat import chat
from parrot.cli.clean import clean
from parrot.cli.plan import plan
from parrot.cli.runs import runs
from parrot.cluster.launch import check_gpus
from parrot.config import limits
from parrot.config.base import validate
from parrot.config.catalog import Benchmark, Control, load_catalogue
from parrot.config.hardware import TrainingHardware
from parrot.config.runs import DEFAULT_CONFIG, Run, Suite
from parrot.config.stages import AlignSettings, FetchSettings, PredictSettings, ScoreSettings, TuneSettings
from parrot.errors import ConfigError, in_one_line
from parrot.io.files import read_json
from parrot.report.compare import compare

app = typer.Typer(
    help="Parrot from data to paper tables. Settings come from a named run or a JSON file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
train = typer.Typer(help="Train a stage.", no_args_is_help=True)
report = typer.Typer(help="Show scores.", no_args_is_help=True)
track = typer.Typer(help="Import records into MLflow.", no_args_is_help=True)
app.add_typer(train, name="train")
app.add_typer(report, name="report")
app.add_typer(track, name="track")

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
    bool, typer.Option("--fresh/--resume", help="start anew, or go on from the newest checkpoint of the same settings")
]


def _suite(configfile: list[str] | None) -> Suite:
    suite = Suite.load((*DEFAULT_CONFIG, *(configfile or ())))
    limits.use(suite.config.limits)
    return suite


def _read(kind: Any, path: Path) -> Any:
    return validate(kind, read_json(path), str(path))


def _settings(
    kind: type,
    stage: str | Callable[[Run], Any],
    run: str | None,
    configfile: list[str] | None,
    settings: Path | None,
) -> Any:
    """A stage's settings, from the run that is named or from a file; `stage` is a property of runs, or a function."""
    if run is not None and settings is None:
        named = _suite(configfile).run(run)
        return getattr(named, stage) if isinstance(stage, str) else stage(named)
    if settings is not None and run is None:
        return _read(kind, settings)
    raise ConfigError("expected exactly one of --run and --settings")


def _hardware(
    stage: Literal["align", "tune"],
    file: Path | None,
    micro_batch: int | None,
    run: str | None,
    configfile: list[str] | None,
) -> TrainingHardware:
    """The file's or the config's, with another micro-batch where one is given; no settings file holds any."""
    if file is not None:
        hardware = _read(TrainingHardware, file)
    elif run is not None:
        hardware = getattr(_suite(configfile).run(run).config.hardware, stage)
    else:
        raise ConfigError("expected --hardware with --settings")
    return hardware if micro_batch is None else hardware.model_copy(update={"micro_batch": micro_batch})


@app.command()
def fetch(
    run: Annotated[list[str] | None, typer.Option(help="runs whose data is meant; default: the report's")] = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
    check: Annotated[bool, typer.Option("--check", help="check what is there; write nothing")] = False,
    pin: Annotated[Path | None, typer.Option(help="DVC file that the data must agree with")] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="where findings go; default without --check: results/{scale}/data.json"),
    ] = None,
) -> None:
    """Make or download the data that runs name, and check it."""
    from parrot.fetch.fetch import fetch as stage

    if settings is not None:
        wanted = [_read(FetchSettings, settings)]
    else:
        suite = _suite(configfile)
        wanted = [suite.run(name).fetch for name in run or suite.config.report.runs]
        if not check:
            report = report or Path(f"results/{suite.config.scale}/data.json")
    datasets = {name: entry for each in wanted for name, entry in each.datasets.items()}
    benchmarks = {name: entry for each in wanted for name, entry in each.benchmarks.items()}
    tokenisations = tuple(dict.fromkeys(how for each in wanted for how in each.tokenisations))
    stage(datasets, benchmarks, check=check, report=report, tokenisations=tokenisations)
    if pin is not None:
        from parrot.fetch.pin import confirm

        confirm(pin, check)
    pinned = f", as {pin} pins them" if pin is not None else ""
    print(f"parrot: all is well: {len(datasets)} data sets and models, {len(benchmarks)} benchmarks{pinned}")


@train.command("align")
def train_align(
    output: Output,
    work: Work,
    hardware: HardwareFile = None,
    micro_batch: MicroBatch = None,
    tracked_as: TrackedAs = None,
    fresh: Fresh = False,
    run: RunName = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Stage 1: the projector alone, on captions."""
    stage = _settings(AlignSettings, "align", run, configfile, settings)
    spread = _hardware("align", hardware, micro_batch, run, configfile)
    from parrot.train.stages import align

    align(stage, output, work, spread, tracked_as, fresh)


@train.command("tune")
def train_tune(
    projector: Annotated[Path, typer.Option(help="stage 1's projector folder")],
    output: Output,
    work: Work,
    hardware: HardwareFile = None,
    micro_batch: MicroBatch = None,
    tracked_as: TrackedAs = None,
    fresh: Fresh = False,
    run: RunName = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Stage 2: projector, experts and language model, on instructions."""
    stage = _settings(TuneSettings, "tune", run, configfile, settings)
    spread = _hardware("tune", hardware, micro_batch, run, configfile)
    from parrot.train.stages import tune

    tune(stage, projector, output, work, spread, tracked_as, fresh)


@app.command()
def predict(
    output: Output,
    model: Annotated[Path | None, typer.Option(help="model folder")] = None,
    stage1: Annotated[Path | None, typer.Option(help="stage 1's projector folder, to ask before stage 2")] = None,
    stage1_settings: Annotated[Path | None, typer.Option(help="stage 1's settings as a JSON file")] = None,
    work: Annotated[Path, typer.Option(help="where answers are kept until all are given")] = Path("work"),
    batch: Annotated[
        int | None, typer.Option(help="questions at once; default with --run: hardware.predict_batch", min=1)
    ] = None,
    gpus: Annotated[int, typer.Option(help="GPUs that have to be visible; 0: whatever is", min=0)] = 0,
    processes: Annotated[int | None, typer.Option(help="default: one for each GPU", min=1)] = None,
    run: RunName = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Answer every benchmark and control of a run."""
    if gpus:
        check_gpus(gpus)
    asked = _settings(PredictSettings, "predict" if stage1 is None else "predict_stage1", run, configfile, settings)
    if [asked.model, model, stage1].count(None) != 2:
        what = "none of --model and --stage1: the run asks" if asked.model else "exactly one of --model and --stage1"
        raise ConfigError(f"expected {what}{f' {asked.model.path}' if asked.model else ''}")
    if batch is None:
        if run is None:
            raise ConfigError("expected --batch with --settings")
        batch = _suite(configfile).run(run).config.hardware.predict_batch
    import torch

    from parrot.evaluate import model_source
    from parrot.evaluate.predict import predict as stage

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[asked.dtype]
    if asked.model is not None:
        source = model_source.pretrained(Path(asked.model.path), dtype)
    elif model is not None:
        source = model_source.trained(model, dtype)
    else:
        assert stage1 is not None
        aligned = _settings(AlignSettings, "align", run, configfile, stage1_settings)
        source = model_source.stage1(aligned, stage1, dtype)
    stage(asked, source, output, work, batch, processes or max(1, torch.cuda.device_count()))


@app.command()
def score(
    predictions: Annotated[Path, typer.Option(help="folder of the run's predictions")],
    output: Output,
    before: Annotated[Path | None, typer.Option(help="folder of the predictions before stage 2")] = None,
    run: RunName = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Grade a run's predictions and write its scores.csv, with graded.csv beside it."""
    from parrot.evaluate.score import score as stage

    stage(_settings(ScoreSettings, "score", run, configfile, settings), predictions, before, output)


@app.command("export-predictions")
def export_predictions(
    predictions: Annotated[Path, typer.Argument(help="folder of a run's predictions")],
    output: Annotated[Path, typer.Argument(help="work directory for VLMEvalKit's run.py")],
    model: Annotated[str | None, typer.Option(help="what the model is called there; default: as the run")] = None,
    file_format: Annotated[Literal["xlsx", "tsv"], typer.Option("--format", help="tsv: for PRED_FORMAT=tsv")] = "xlsx",
    prefix: Annotated[str, typer.Option(help="before the data sets' names, where the published ones are others")] = "",
    run: RunName = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Write predictions as files that VLMEvalKit scores."""
    from parrot.integrations.predictions import export_predictions as export

    stage = _settings(ScoreSettings, "score", run, configfile, settings)
    for path in export(stage, predictions, output, model or stage.run, file_format, prefix):
        print(path)


@report.command("scores")
def report_scores(
    scores: Annotated[list[Path], typer.Argument(help="scores.csv files of runs")], output: Output
) -> None:
    """Lay scores.csv files one below the other."""
    from parrot.evaluate.score import join

    join(scores, output)


@report.command("build")
def report_build(
    scores: Annotated[list[Path], typer.Option(help="scores.csv files")],
    results: Annotated[Path, typer.Option(help="the scale's results folder")],
    output: Output,
    target: Annotated[str | None, typer.Option(help="a run or a family; default: the config's report")] = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Write tables, figures and the page."""
    from parrot.report.build import build
    from parrot.report.settings import ReportStage, report_stage

    stage = _read(ReportStage, settings) if settings is not None else report_stage(_suite(configfile), target)
    print(build(stage, scores, results, output))


@report.command("predictions")
def report_predictions(
    predictions: Annotated[Path, typer.Argument(help="folder of a run's predictions")],
    output: Annotated[Path, typer.Option(help="the page, an HTML file")],
    graded: Annotated[
        Path | None, typer.Option(help="the run's graded.csv; default: beside the folder of predictions")
    ] = None,
    run: RunName = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Write one page to browse a run's answers; it opens from the file."""
    from parrot.report.browse import write
    from parrot.report.settings import BrowseStage, browse_stage

    stage = _settings(BrowseStage, browse_stage, run, configfile, settings)
    write(stage, predictions, graded or predictions.parent / "graded.csv", output)


@report.command("router")
def report_router(
    predictions: Annotated[Path, typer.Argument(help="folder of a run's predictions")],
    control: Annotated[Control, typer.Option(help="what was asked: questions as they are, or a control")] = "none",
) -> None:
    """Print the router's entropy, and what its choice tells of language and question kind."""
    from parrot.report.router import text

    print(text(predictions, load_catalogue("config/benchmarks.yaml", Benchmark).values(), control))


@track.command("init")
def track_init() -> None:
    """Make the store where it is missing."""
    from parrot.tracking.importer import init_store

    init_store()


@track.command("import")
def track_import(
    results: Annotated[Path, typer.Option(help="the scale's results folder")],
    run: Annotated[list[str] | None, typer.Option(help="runs to import")] = None,
    report: Annotated[Path | None, typer.Option(help="folder of tables and figures that the runs get")] = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Import runs into MLflow; importing again changes nothing."""
    from parrot.tracking.identity import TrackedRun, tracked_run
    from parrot.tracking.importer import import_runs

    if settings is not None:
        runs = _read(tuple[TrackedRun, ...], settings)
    else:
        suite = _suite(configfile)
        runs = [tracked_run(suite.run(name)) for name in run or suite.config.report.runs]
    if import_runs(runs, results, report):
        print(f"parrot: all is well: {', '.join(run.name for run in runs)} in MLflow")


app.command()(chat)
app.command()(clean)
app.command()(compare)
app.command()(plan)
app.command()(runs)


@app.command(context_settings={"ignore_unknown_options": True})
def launch(
    command: Annotated[list[str], typer.Argument(help="what each process runs: `train align ...`, `train tune ...`")],
    nodes: Annotated[int, typer.Option(help="nodes of the job", min=1)] = 1,
    gpus: Annotated[int, typer.Option(help="GPUs of a node; 0: one process, on what there is", min=0)] = 0,
    threads: Annotated[int, typer.Option(help="processor cores of a node", min=1)] = 1,
    device: Annotated[Literal["cuda", "cpu"], typer.Option(help="cpu: processes on cores in place of GPUs")] = "cuda",
) -> None:
    """Start a training's processes, one a GPU, on this node and, inside a Slurm job, on its others."""
    from parrot.cluster.launch import launch as start

    start(command, nodes, gpus, threads, device)


@app.command()
def doctor(
    profile: Annotated[
        str | None, typer.Option(help="Snakemake profile whose cluster is checked too; default: this machine alone")
    ] = None,
    configfile: ConfigFiles = None,
    no_job: Annotated[bool, typer.Option("--no-job", help="leave out the two checks that need a job")] = False,
    wait: Annotated[int, typer.Option(help="seconds that a node may take to come free for such a job", min=1)] = 60,
) -> None:
    """Check what would stop a run before it starts; one line a check, exit code 1 if any failed."""
    from parrot.cluster.doctor.examine import examine

    found: Counter[str] = Counter()
    for finding in examine(profile, configfile or [], None if no_job else wait):
        print(finding, flush=True)
        found[finding.status] += 1
    if found["failed"]:
        raise typer.Exit(1)
    print(f"parrot: all is well: nothing failed, {found['warning']} of {found.total()} checks warned", file=sys.stderr)


@app.command("import-released")
def import_released(
    source: Annotated[Path, typer.Argument(help="folder of a released checkpoint")],
    destination: Annotated[Path, typer.Argument(help="where the model folder goes")],
    vision_tower: Annotated[Path | None, typer.Option(help="the vision encoder's folder, if not beside SRC")] = None,
) -> None:
    """Turn a released checkpoint into a model folder."""
    from parrot.model.convert.convert import import_released as convert

    convert(source, destination, vision_tower)
    print(f"parrot: all is well: {destination} is a model folder")


@app.command("export-released")
def export_released(
    source: Annotated[Path, typer.Argument(help="model folder, e.g. results/mini/parrot/model")],
    destination: Annotated[Path, typer.Argument(help="where the released layout goes")],
) -> None:
    """Write a model folder in the layout of the released checkpoints."""
    from parrot.model.convert.convert import export_released as convert

    convert(source, destination)
    print(f"parrot: all is well: {destination} has the released layout")


def main() -> None:
    """Run the command; what is wrong is one line on stderr: exit code 2 for a malformed command line, else 1."""
    with in_one_line():
        try:
            code = app(prog_name="parrot", standalone_mode=False)  # else Typer draws a box of five lines
        except typer.TyperException as error:
            message = " ".join(error.format_message().split())
            if message:  # none where the help was shown in place of a command
                print(f"parrot: error: {message.removesuffix('.')}; see {_command(error)} --help", file=sys.stderr)
            code = error.exit_code
        sys.exit(code or 0)


def _command(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "parrot"
