# Query HSC's catalog server if the configuration says so, check the catalog, and split it into chunks. When a catalog
# grows, its existing chunks stay the same.


# This is a checkpoint, because the number of galaxies is known only after the query.
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
        version=VERSIONS["query"],
        settings=uses("catalog.rerun"),
    script:
        "../scripts/query.py"


# A user's own table is not an input, because its content should decide, and not its path or its time.
rule catalog:
    input:
        **QUERY_TABLE,
    output:
        f"{RESULTS}/catalog.parquet",
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
        version=VERSIONS["catalog"],
        columns=settings.catalog.columns,
        table=table_digest,
        settings=uses("catalog", "cutouts.source", simulated=["cutouts.simulated", "seed"]),
    script:
        "../scripts/catalog.py"


# A rule of its own, because `catalog` also runs again when a label or another column of the user's has changed.
rule chunks:
    input:
        **{name: ancient(table) for name, table in QUERY_TABLE.items()},
    output:
        chunks=directory(f"{RESULTS}/chunks"),
        objects=f"{RESULTS}/objects.parquet",
    log:
        f"{RESULTS}/logs/chunks.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(4000),
        runtime=60,
    params:
        version=VERSIONS["chunks"],
        plan=lambda wildcards: plan(wildcards).digest,
        settings=uses("catalog.source", "catalog.chunk_size", "cutouts", simulated=["seed"]),
    script:
        "../scripts/chunks.py"
