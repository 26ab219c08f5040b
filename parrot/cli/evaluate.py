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
    asked = stage_settings(
        PredictSettings, "predict" if stage1 is None else "predict_stage1", run, configfile, settings
    )
    if [asked.model, model, stage1].count(None) != 2:
        what = "none of --model and --stage1: the run asks" if asked.model else "exactly one of --model and --stage1"
        raise UserError(f"expected {what}{f' {asked.model.path}' if asked.model else ''}")
    if batch is None:
        if run is None:
            raise UserError("expected --batch with --settings")
        batch = load_suite(configfile).run(run).config.hardware.predict_batch
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
        aligned = stage_settings(AlignSettings, "align", run, configfile, stage1_settings)
        source = model_source.stage1(aligned, stage1, dtype)
    stage(asked, source, output, work, batch, processes or max(1, torch.cuda.device_count()))


@commands.command()
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

    stage(stage_settings(ScoreSettings, "score", run, configfile, settings), predictions, before, output)


@commands.command("export-predictions")
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

    stage = stage_settings(ScoreSettings, "score", run, configfile, settings)
    for path in export(stage, predictions, output, model or stage.run, file_format, prefix):
        print(path)


@commands.command("import-released")
def import_released(
    source: Annotated[Path, typer.Argument(help="folder of a released checkpoint")],
    destination: Annotated[Path, typer.Argument(help="where the model folder goes")],
    vision_tower: Annotated[Path | None, typer.Option(help="the vision encoder's folder, if not beside SRC")] = None,
) -> None:
    """Turn a released checkpoint into a model folder."""
    from parrot.model.convert.convert import import_released as convert

    convert(source, destination, vision_tower)
    print(f"parrot: all is well: {destination} is a model folder")


@commands.command("export-released")
def export_released(
    source: Annotated[Path, typer.Argument(help="model folder, e.g. results/mini/parrot/model")],
    destination: Annotated[Path, typer.Argument(help="where the released layout goes")],
) -> None:
    """Write a model folder in the layout of the released checkpoints."""
    from parrot.model.convert.convert import export_released as convert

    convert(source, destination)
    print(f"parrot: all is well: {destination} has the released layout")
