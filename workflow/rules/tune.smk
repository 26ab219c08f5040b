"""Stage 2: projector, experts and language model on instructions."""


rule tune:
    """Tune one run from its stage 1."""
    input:
        data=lambda w: f"<results>/data/{suite.run(w.run).data_key}.json",
        projector=lambda w: f"<results>/align/{suite.run(w.run).stage1_key}/projector/model.safetensors",
    output:
        model="<results>/{run}/model/model.safetensors",
        metrics="<results>/{run}/metrics.jsonl",
        provenance="<results>/{run}/provenance.json",
    wildcard_constraints:
        run=one_of(run for run, first in suite.trained_as.items() if run == first),
    params:
        settings=lambda w: settings_file(suite.run(w.run).tune),
        code=lambda w: code_of(suite.run(w.run).tune),
        projector=subpath(input.projector, parent=True),
        output=subpath(output.metrics, parent=True),
        work=work,
        tracked_as=lambda w: str(tracked_run(suite.run(w.run)).stage2),
    log:
        "<logs>/{run}/tune.log",
    benchmark:
        "<benchmarks>/{run}/tune.jsonl"
    conda:
        "../../environment.yml"
    # The longest chain first: jobs that need only a core should not delay a training.
    priority: 1
    threads: hardware.threads
    resources:
        **on_nodes(hardware.nodes, hardware.gpus),
        micro_batch=hardware.tune.micro_batch,
        # A resource, since it does not affect the result; a second attempt resumes from the first one's checkpoint.
        start=lambda w, attempt: "fresh" if w.run in fresh and attempt == 1 else "resume",
        hardware=settings_file(hardware.tune),
        mem_mb=4000,
        runtime="2h",
        device=hardware.device,
        gpus_per_node=hardware.gpus,
    shell:
        "parrot launch --nodes {resources.nodes:q} --gpus {resources.gpus_per_node:q} --threads {threads:q} "
        "--device {resources.device:q} -- train tune --settings {params.settings:q} --projector {params.projector:q} "
        "--output {params.output:q} --work {params.work:q} --hardware {resources.hardware:q} "
        "--micro-batch {resources.micro_batch:q} --{resources.start:q} --tracked-as {params.tracked_as:q} "
        "2>&1 | log {log:q}"


rule link_model:
    """Link the model of another run into a run with the same training."""
    input:
        model=lambda w: f"<results>/{suite.trained_as[w.run]}/model/model.safetensors",
        metrics=lambda w: f"<results>/{suite.trained_as[w.run]}/metrics.jsonl",
        provenance=lambda w: f"<results>/{suite.trained_as[w.run]}/provenance.json",
    output:
        model="<results>/{run}/model/model.safetensors",
        metrics="<results>/{run}/metrics.jsonl",
        provenance="<results>/{run}/provenance.json",
    wildcard_constraints:
        run=one_of(run for run, first in suite.trained_as.items() if run != first),
    params:
        source=subpath(input.model, parent=True),
        source_records=subpath(input.metrics, parent=True),
        target=subpath(output.model, parent=True),
        records=subpath(output.metrics, parent=True),
    log:
        "<logs>/{run}/link_model.log",
    benchmark:
        "<benchmarks>/{run}/link_model.jsonl"
    conda:
        "../../environment.yml"
    localrule: True
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    shell:
        "(rm -rf {params.target:q} {params.records:q}/system-*.jsonl; cp -rl {params.source:q} {params.target:q}; "
        "ln -f {input.metrics:q} {output.metrics:q}; ln -f {input.provenance:q} {output.provenance:q}; "
        "find {params.source_records:q} -maxdepth 1 -name 'system-*.jsonl' -exec ln -f -t {params.records:q} {{}} +) "
        "2>&1 | log {log:q}"
