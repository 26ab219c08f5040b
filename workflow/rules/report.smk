"""Tables, figures and pages, from scores, graded items and records; predictions are shown with their images."""


rule report:
    """Write the report: tables, figures and one self-contained page."""
    input:
        scores=rules.scores.output.scores,
        data=sorted({f"<results>/data/{suite.run(run).data_key}.json" for run in suite.config.report.runs}),
        graded=expand("<results>/{run}/graded.csv", run=suite.config.report.runs),
        predictions=expand("<results>/{run}/predictions", run=report_stage(suite).shows_predictions_of),
        metrics=expand("<results>/{run}/metrics.jsonl", run=suite.trained(suite.config.report.runs)),
        provenance=expand("<results>/{run}/provenance.json", run=suite.trained(suite.config.report.runs)),
    output:
        tables=[f"<results>/{file}" for file in report_stage(suite).outputs() if file.startswith("tables")],
        figures=[f"<results>/{file}" for file in report_stage(suite).outputs() if file.startswith("figures")],
        page="<results>/report.html",
    params:
        settings=settings_file(report_stage(suite)),
        code=code_digest("report"),
        results=subpath(output.page, parent=True),
    log:
        "<logs>/report.log",
    benchmark:
        "<benchmarks>/report.jsonl"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "parrot report build --settings {params.settings:q} --scores {input.scores:q} --results {params.results:q} "
        "--output {params.results:q} 2>&1 | log {log:q}"


rule predictions_page:
    """Write the predictions page of one run."""
    input:
        predictions=rules.predict.output.predictions,
        graded=rules.score.output.graded,
        data=lambda w: f"<results>/data/{suite.run(w.run).data_key}.json",
    output:
        page="<results>/{run}/predictions.html",
    params:
        settings=lambda w: settings_file(browse_stage(suite.run(w.run))),
        code=code_digest("predictions_page"),
    log:
        "<logs>/{run}/predictions_page.log",
    benchmark:
        "<benchmarks>/{run}/predictions_page.jsonl"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "parrot report predictions {input.predictions:q} --graded {input.graded:q} --settings {params.settings:q} "
        "--output {output.page:q} 2>&1 | log {log:q}"


# Every target has the same tables and figures.
of_any_target = report_stage(suite, suite.targets[0]).outputs()


rule by_target:
    """Write the report of one target, a run or a family, with its baselines."""
    input:
        scores=lambda w: expand("<results>/{run}/scores.csv", run=compared(suite, w.target)),
        data=lambda w: sorted({f"<results>/data/{suite.run(run).data_key}.json" for run in compared(suite, w.target)}),
        graded=lambda w: expand("<results>/{run}/graded.csv", run=compared(suite, w.target)),
        predictions=lambda w: expand(
            "<results>/{run}/predictions", run=report_stage(suite, w.target).shows_predictions_of
        ),
        metrics=lambda w: expand("<results>/{run}/metrics.jsonl", run=suite.trained(compared(suite, w.target))),
        provenance=lambda w: expand("<results>/{run}/provenance.json", run=suite.trained(compared(suite, w.target))),
    output:
        tables=[f"<results>/by_target/{{target}}/{file}" for file in of_any_target if file.startswith("tables")],
        figures=[f"<results>/by_target/{{target}}/{file}" for file in of_any_target if file.startswith("figures")],
        page="<results>/by_target/{target}/report.html",
    params:
        settings=lambda w: settings_file(report_stage(suite, w.target)),
        scores=lambda w, input: [word for file in input.scores for word in ("--scores", file)],
        code=code_digest("report"),
        results=lambda w: results,
        output=lambda w: f"{results}/by_target/{w.target}",
    log:
        "<logs>/by_target/{target}.log",
    benchmark:
        "<benchmarks>/by_target/{target}.jsonl"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "parrot report build --settings {params.settings:q} {params.scores:q} --results {params.results:q} "
        "--output {params.output:q} 2>&1 | log {log:q}"
