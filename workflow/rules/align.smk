"""Stage 1: the projector alone, shared by all runs with the same stage-1 settings."""


rule align:
    """Train the projector on English captions."""
    input:
        data=lambda w: f"<results>/data/{suite.with_stage1(w.key).data_key}.json",
    output:
        projector="<results>/align/{key}/projector/model.safetensors",
        config="<results>/align/{key}/projector/config.json",
        metrics="<results>/align/{key}/metrics.jsonl",
        provenance="<results>/align/{key}/provenance.json",
    params:
        settings=lambda w: settings_file(suite.with_stage1(w.key).align),
        code=lambda w: code_of(suite.with_stage1(w.key).align),
        output=subpath(output.metrics, parent=True),
        work=work,
        tracked_as=lambda w: str(stage1_id(suite.config.scale, w.key)),
    log:
        "<logs>/align/{key}/align.log",
    benchmark:
        "<benchmarks>/align/{key}/align.jsonl"
    conda:
        "../../environment.yml"
    threads: hardware.threads
    resources:
        **on_nodes(hardware.nodes, hardware.gpus),
        micro_batch=hardware.align.micro_batch,
        hardware=settings_file(hardware.align),
        mem_mb=4000,
        runtime="2h",
        device=hardware.device,
        gpus_per_node=hardware.gpus,
    shell:
        "parrot launch --nodes {resources.nodes:q} --gpus {resources.gpus_per_node:q} --threads {threads:q} "
        "--device {resources.device:q} -- train align --settings {params.settings:q} --output {params.output:q} "
        "--work {params.work:q} --hardware {resources.hardware:q} --micro-batch {resources.micro_batch:q} "
        "--tracked-as {params.tracked_as:q} 2>&1 | log {log:q}"


rule predict_stage1:
    """Generate the stage-1 model's text-only predictions, for benchmarks that have this control."""
    input:
        projector=rules.align.output.projector,
        data=lambda w: f"<results>/data/{suite.with_stage1(w.key).data_key}.json",
    output:
        predictions=directory("<results>/align/{key}/predictions"),
    params:
        settings=lambda w: settings_file(suite.with_stage1(w.key).predict_stage1),
        stage1=lambda w: settings_file(suite.with_stage1(w.key).align),
        code=lambda w: code_of(suite.with_stage1(w.key).predict_stage1),
        model=subpath(input.projector, parent=True),
        work=work,
    log:
        "<logs>/align/{key}/predict.log",
    benchmark:
        "<benchmarks>/align/{key}/predict.jsonl"
    conda:
        "../../environment.yml"
    threads: hardware.threads
    resources:
        **on_nodes(1, min(hardware.gpus, 1)),
        batch=hardware.predict_batch,
        mem_mb=4000,
        runtime="2h",
    shell:
        "parrot predict --settings {params.settings:q} --stage1 {params.model:q} --stage1-settings {params.stage1:q} "
        "--output {output.predictions:q} --work {params.work:q} --batch {resources.batch:q} --gpus {resources.gpu:q} "
        "2>&1 | log {log:q}"
