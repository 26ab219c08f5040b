"""Parrot from data to paper tables: `snakemake all`, or any run or family of config/runs.yaml by name."""

from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"


pathvars:
    results=results,
    logs=f"logs/{suite.config.scale}",
    benchmarks=f"benchmarks/{suite.config.scale}",


wildcard_constraints:
    run=one_of(suite.usable),
    target=one_of(suite.targets),
    key="[0-9a-f]{12}",
    data="[0-9a-f]{12}",


include: "workflow/rules/fetch.smk"
include: "workflow/rules/align.smk"
include: "workflow/rules/tune.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/track.smk"


rule all:
    """The report on the config's `report.runs`, with each run in MLflow and its predictions page."""
    default_target: True
    input:
        page=rules.report.output.page,
        answers=expand(rules.predictions_page.output.page, run=suite.config.report.runs),
        tracked=rules.track.output.stamp,


rule tables:
    """The report's tables."""
    input:
        tables=rules.report.output.tables,


rule figures:
    """The report's figures."""
    input:
        figures=rules.report.output.figures,


rule stage1:
    """Stage 1 of the report's runs."""
    input:
        projectors=expand(
            rules.align.output.projector,
            key={suite.run(run).stage1_key for run in suite.trained(suite.config.report.runs)},
        ),


# A target for each run and family: training, predictions, scores, tables and pages with its baselines, and MLflow.
for name in suite.targets:

    rule:
        name:
            name
        input:
            page=expand(rules.by_target.output.page, target=name),
            answers=expand(rules.predictions_page.output.page, run=suite.target(name)),
            tracked=expand(rules.track_target.output.stamp, target=name),


may_start()
