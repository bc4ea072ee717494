# The fraction of injected tidal features that the ranking recovers: a measure that needs no label.


rule completeness:
    input:
        images=f"{RESULTS}/images.json",
        encoder=f"{RESULTS}/encoder/encoder.pt",
        debris_maps=debris_maps,
        ids=vector_ids,
    output:
        table=f"{RESULTS}/evaluation/completeness.csv",
        injections=f"{RESULTS}/evaluation/completeness_injections.csv",
        summary=f"{RESULTS}/evaluation/completeness.json",
        picture=report(
            f"{RESULTS}/evaluation/completeness.png",
            caption="../report/completeness.rst",
            category="Evaluation",
            labels={"figure": "Completeness by injection"},
        ),
    log:
        f"{RESULTS}/logs/completeness.log",
    benchmark:
        f"{RESULTS}/benchmarks/completeness.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=growing(8000),
        runtime=120,
        gpu=min(settings.compute.gpus, 1),
    params:
        version=VERSIONS["completeness"],
        settings=uses("completeness", "embedding", "seed"),
    script:
        "../scripts/completeness.py"
