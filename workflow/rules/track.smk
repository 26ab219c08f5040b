"""MLflow: a view of the records, imported after the fact; the store itself is never a declared output."""


rule init_tracking:
    """Make the MLflow store before any job opens it: several jobs opening a fresh SQLite store crash it."""
    output:
        stamp=touch("<results>/tracking"),
    log:
        "<logs>/init_tracking.log",
    benchmark:
        "<benchmarks>/init_tracking.jsonl"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "parrot track init 2>&1 | tee {log} >&2"


rule track:
    """Import one run into MLflow: parameters, curves, accuracies, artefacts."""
    input:
        tracking=ancient(rules.init_tracking.output.stamp),
        metrics="<results>/{run}/metrics.jsonl",
        provenance="<results>/{run}/provenance.json",
        scores=rules.score.output.scores,
    output:
        stamp=touch("<results>/{run}/tracked"),
    log:
        "<logs>/{run}/track.log",
    benchmark:
        "<benchmarks>/{run}/track.jsonl"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        settings=lambda w: canonical(suite.run(w.run).config),
        results=subpath(input.metrics, parent=True),
    shell:
        "parrot track run {wildcards.run} --results {params.results} 2>&1 | tee {log} >&2"
