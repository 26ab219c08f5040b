"""Prediction asks the model once for everything; scoring never needs it again."""


rule predict:
    """Answer every benchmark and control of one run."""
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
        code=code_digest("parrot.evaluate.predict"),
        model=lambda w, input: f"--model {Path(input.model).parent}" if input.model else "",
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
        "parrot predict --settings {params.settings} {params.model} --output {output.predictions} "
        "--work {params.work} --batch {resources.batch} --gpus {resources.gpu} 2>&1 | log {log}"


rule score:
    """Match one run's answers and those given before its stage 2."""
    input:
        predictions=rules.predict.output.predictions,
        before=lambda w: (
            f"<results>/align/{suite.run(w.run).stage1_key}/predictions" if suite.run(w.run).scores_before else []
        ),
    output:
        scores="<results>/{run}/scores.csv",
    params:
        settings=lambda w: settings_file(suite.run(w.run).score),
        before=lambda w, input: f"--before {input.before}" if input.before else "",
        code=code_digest("parrot.evaluate.score"),
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
        "parrot score --settings {params.settings} --predictions {input.predictions} {params.before} "
        "--output {output.scores} 2>&1 | log {log}"


rule scores:
    """Lay the scores of the report's runs one below the other."""
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
        "parrot report scores {input.scores} --output {output.scores} 2>&1 | log {log}"
