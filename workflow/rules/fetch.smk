"""Data: generated or downloaded, checked, and compared with its DVC pin."""


rule fetch:
    """Fetch and check the data sets, backbones and benchmarks of runs; `dvc` compares them with the pin."""
    input:
        pin=lambda w: [file for file in [suite.config.data_pin] if file and exists(file)],
        given=lambda w: [file for file in suite.with_data(w.data).fetch.given if exists(file)],
    output:
        report="<results>/data/{data}.json",
    params:
        settings=lambda w: settings_file(suite.with_data(w.data).fetch),
        pin=lambda w: ["--pin", suite.config.data_pin] if suite.config.data_pin else [],
        code=lambda w: code_of(suite.with_data(w.data).fetch),
    log:
        "<logs>/fetch/{data}.log",
    benchmark:
        "<benchmarks>/fetch/{data}.jsonl"
    conda:
        "../../environment.yml"
    localrule: True
    threads: 1
    resources:
        mem_mb=2000,
        runtime="12h",
    shell:
        "parrot fetch --settings {params.settings:q} {params.pin:q} --report {output.report:q} 2>&1 | log {log:q}"
