# Which galaxies: ask HSC's catalog server for them where the configuration says so, check the catalog, and split it into
# chunks that stay what they are when it grows.


# A checkpoint: how many galaxies a query finds is known only when it has run.
checkpoint query:
    input:
        settings.catalog.query or [],
    output:
        table=f"{RESULTS}/query.csv.gz",
        provenance=f"{RESULTS}/query.csv.gz.json",
    log:
        f"{RESULTS}/logs/query.log",
    benchmark:
        f"{RESULTS}/benchmarks/query.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(4000),
        # The server may take a day to answer.
        runtime=26 * 60,
    params:
        settings=uses("catalog.rerun"),
    script:
        "../scripts/query.py"


rule catalog:
    input:
        **({"table": TABLE} if TABLE else {}),
    output:
        catalog=f"{RESULTS}/catalog.parquet",
        chunks=directory(f"{RESULTS}/chunks"),
    log:
        f"{RESULTS}/logs/catalog.log",
    benchmark:
        f"{RESULTS}/benchmarks/catalog.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(4000),
        runtime=60,
    params:
        settings=uses("catalog", "cutouts.source", simulated=["cutouts.simulated", "seed"]),
    script:
        "../scripts/catalog.py"
