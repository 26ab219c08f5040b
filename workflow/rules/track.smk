"""MLflow: records imported when a report is complete. Nothing reads the store, so no rule declares it."""


rule track:
    """Import the report's runs: parameters, curves, accuracies, tables and figures."""
    input:
        report=rules.report.output,
        scores=expand("<results>/{run}/scores.csv", run=suite.config.report.runs),
        answers=expand("<results>/{run}/predictions.html", run=suite.config.report.runs),
        metrics=expand("<results>/{run}/metrics.jsonl", run=suite.trained(suite.config.report.runs)),
        provenance=expand("<results>/{run}/provenance.json", run=suite.trained(suite.config.report.runs)),
    output:
        stamp=touch("<results>/tracked"),
    params:
        settings=settings_file([tracked_run(suite.run(run)) for run in suite.config.report.runs]),
        results=lambda w: results,
        report=lambda w: results,
    log:
        "<logs>/track.log",
    benchmark:
        "<benchmarks>/track.jsonl"
    conda:
        "../../environment.yml"
    localrule: True
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    shell:
        "parrot track import --settings {params.settings:q} --results {params.results:q} --report {params.report:q} "
        "2>&1 | log {log:q}"


rule track_target:
    """Import the runs of one target and their baselines, with its own tables."""
    input:
        report=rules.by_target.output,
        scores=lambda w: expand("<results>/{run}/scores.csv", run=compared(suite, w.target)),
        answers=lambda w: expand("<results>/{run}/predictions.html", run=compared(suite, w.target)),
        metrics=lambda w: expand("<results>/{run}/metrics.jsonl", run=suite.trained(compared(suite, w.target))),
        provenance=lambda w: expand("<results>/{run}/provenance.json", run=suite.trained(compared(suite, w.target))),
    output:
        stamp=touch("<results>/by_target/{target}/tracked"),
    params:
        settings=lambda w: settings_file([tracked_run(suite.run(run)) for run in compared(suite, w.target)]),
        results=lambda w: results,
        report=subpath(output.stamp, parent=True),
    log:
        "<logs>/by_target/{target}.track.log",
    benchmark:
        "<benchmarks>/by_target/{target}.track.jsonl"
    conda:
        "../../environment.yml"
    localrule: True
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    shell:
        "parrot track import --settings {params.settings:q} --results {params.results:q} --report {params.report:q} "
        "2>&1 | log {log:q}"
