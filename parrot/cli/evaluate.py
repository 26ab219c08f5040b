"""Commands that predict, score and convert: predict, score, export-predictions, import-released, export-released."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from parrot.cli.options import (
    ConfigFiles,
    Json,
    Output,
    RunName,
    load_suite,
    stage_settings,
)
from parrot.cluster.launch import check_gpus
from parrot.config.stages import AlignSettings, PredictSettings, ScoreSettings
from parrot.errors import UserError

commands = typer.Typer()


@commands.command()
def predict(
    output: Output,
    model: Annotated[Path | None, typer.Option(help="model folder")] = None,
    stage1: Annotated[
        Path | None, typer.Option(help="stage 1's projector folder, to evaluate the stage-1 model")
    ] = None,
    stage1_settings: Annotated[
        Path | None, typer.Option(help="stage 1's settings as a JSON file; with --settings and --stage1")
    ] = None,
    work: Annotated[Path, typer.Option(help="where predictions are cached until all are complete")] = Path("work"),
    batch: Annotated[
        int | None, typer.Option(help="batch size; default with --run: hardware.predict_batch", min=1)
    ] = None,
    gpus: Annotated[int, typer.Option(help="number of GPUs that must be visible; 0: any number", min=0)] = 0,
    processes: Annotated[int | None, typer.Option(help="number of processes; default: one per GPU", min=1)] = None,
    run: RunName = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Generate predictions for every benchmark and control of a run."""
    if gpus:
        check_gpus(gpus)
    requested = stage_settings(
        PredictSettings, "predict" if stage1 is None else "predict_stage1", run, configfile, settings
    )
    if requested.model is not None and (model is not None or stage1 is not None):
        subject = settings if run is None else f"run {run}"
        raise UserError(f"{subject} evaluates the pretrained model {requested.model.path}: drop --model and --stage1")
    if requested.model is None and (model is None) == (stage1 is None):
        raise UserError("expected exactly one of --model and --stage1")
    if batch is None:
        if run is None:
            raise UserError("expected --batch with --settings")
        batch = load_suite(configfile).run(run).config.hardware.predict_batch
    import torch

    from parrot.evaluate import model_source
    from parrot.evaluate.predict import predict as stage

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[requested.dtype]
    if requested.model is not None:
        source = model_source.pretrained(Path(requested.model.path), dtype)
    elif model is not None:
        source = model_source.trained(model, dtype)
    else:
        assert stage1 is not None
        aligned = stage_settings(AlignSettings, "align", run, configfile, stage1_settings)
        source = model_source.stage1(aligned, stage1, dtype)
    stage(requested, source, output, work, batch, processes or max(1, torch.cuda.device_count()))


@commands.command()
def score(
    predictions: Annotated[Path, typer.Option(help="folder of the run's predictions")],
    output: Output,
    before: Annotated[Path | None, typer.Option(help="folder of the stage-1 model's predictions")] = None,
    run: RunName = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Grade a run's predictions; write scores.csv to --output and graded.csv next to it."""
    from parrot.evaluate.score import score as stage

    stage(stage_settings(ScoreSettings, "score", run, configfile, settings), predictions, before, output)


@commands.command("export-predictions")
def export_predictions(
    predictions: Annotated[Path, typer.Argument(help="folder of a run's predictions")],
    output: Annotated[Path, typer.Argument(help="work directory for VLMEvalKit's run.py")],
    model: Annotated[str | None, typer.Option(help="model name in VLMEvalKit; default: the run's name")] = None,
    file_format: Annotated[
        Literal["xlsx", "tsv"], typer.Option("--format", help="file format; tsv is for PRED_FORMAT=tsv")
    ] = "xlsx",
    prefix: Annotated[
        str, typer.Option(help="prefix of the data set names, to keep them apart from the published ones")
    ] = "",
    run: RunName = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Write predictions as files that VLMEvalKit can score."""
    from parrot.integrations.predictions import export_predictions as export

    stage = stage_settings(ScoreSettings, "score", run, configfile, settings)
    for path in export(stage, predictions, output, model or stage.run, file_format, prefix):
        print(path)


@commands.command("import-released")
def import_released(
    source: Annotated[Path, typer.Argument(help="folder of a released checkpoint")],
    destination: Annotated[Path, typer.Argument(help="model folder to write")],
    vision_tower: Annotated[Path | None, typer.Option(help="vision encoder's folder; default: next to SOURCE")] = None,
) -> None:
    """Convert a released checkpoint to a model folder."""
    from parrot.model.convert.convert import import_released as convert

    convert(source, destination, vision_tower)
    print(f"parrot: all is well: {destination} is a model folder")


@commands.command("export-released")
def export_released(
    source: Annotated[Path, typer.Argument(help="model folder, e.g. results/mini/parrot/model")],
    destination: Annotated[Path, typer.Argument(help="folder to write, in the released layout")],
) -> None:
    """Convert a model folder to the layout of the released checkpoints."""
    from parrot.model.convert.convert import export_released as convert

    convert(source, destination)
    print(f"parrot: all is well: {destination} has the released layout")
