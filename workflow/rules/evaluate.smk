"""Generate predictions once and grade them once; later rules read the results."""


rule predict:
    """Generate predictions for every benchmark and control of one run."""
    input:
        model=branch(
            lambda w: suite.run(w.run).pretrained_model is None,
            then="<results>/{run}/model/model.safetensors",
            otherwise=[],
        ),
        data=lambda w: f"<results>/data/{suite.run(w.run).data_key}.json",
    output:
        predictions=directory("<results>/{run}/predictions"),
    params:
        settings=lambda w: settings_file(suite.run(w.run).predict),
        code=lambda w: code_of(suite.run(w.run).predict),
        model=lambda w, input: ["--model", str(Path(input.model).parent)] if input.model else [],
        work=work,
    log:
        "<logs>/{run}/predict.log",
    benchmark:
        "<benchmarks>/{run}/predict.jsonl"
    conda:
        "../../environment.yml"
    threads: hardware.threads
    resources:
        **on_nodes(1, hardware.gpus),
        batch=hardware.predict_batch,
        mem_mb=4000,
        runtime="2h",
    shell:
        "parrot predict --settings {params.settings:q} {params.model:q} --output {output.predictions:q} "
        "--work {params.work:q} --batch {resources.batch:q} --gpus {resources.gpu:q} 2>&1 | log {log:q}"


rule score:
    """Grade one run's predictions and its stage-1 model's, and aggregate the grades."""
    input:
        predictions=rules.predict.output.predictions,
        before=lambda w: (
            f"<results>/align/{suite.run(w.run).stage1_key}/predictions" if suite.run(w.run).scores_before else []
        ),
    output:
        scores="<results>/{run}/scores.csv",
        graded="<results>/{run}/graded.csv",
    params:
        settings=lambda w: settings_file(suite.run(w.run).score),
        before=lambda w, input: ["--before", input.before] if input.before else [],
        code=lambda w: code_of(suite.run(w.run).score),
    log:
        "<logs>/{run}/score.log",
    benchmark:
        "<benchmarks>/{run}/score.jsonl"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "parrot score --settings {params.settings:q} --predictions {input.predictions:q} {params.before:q} "
        "--output {output.scores:q} 2>&1 | log {log:q}"


rule scores:
    """Concatenate the scores of the report's runs."""
    input:
        scores=expand("<results>/{run}/scores.csv", run=suite.config.report.runs),
    output:
        scores="<results>/scores.csv",
    log:
        "<logs>/scores.log",
    benchmark:
        "<benchmarks>/scores.jsonl"
    conda:
        "../../environment.yml"
    localrule: True
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "parrot report scores {input.scores:q} --output {output.scores:q} 2>&1 | log {log:q}"
