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
        rerun=settings.catalog.rerun,
    script:
        "../scripts/query.py"


def catalog_table():
    """The file that the catalog is made from; the simulated survey has none."""
    tables = {"simulated": None, "file": settings.catalog.path, "hsc_sql": f"{RESULTS}/query.csv.gz"}
    return tables[settings.catalog.source]


rule catalog:
    input:
        **({"table": catalog_table()} if catalog_table() else {}),
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
        catalog=settings.catalog.content(),
        survey=settings.cutouts.simulated.model_dump() if settings.catalog.source == "simulated" else None,
        seed=settings.seed if settings.catalog.source == "simulated" else None,
    script:
        "../scripts/catalog.py"


try:
    PLAN = plan_run(settings, catalog_table(), f"{RESULTS}/catalog.parquet")
except TidalkinError as error:
    raise WorkflowError(str(error)) from None


def plan(wildcards):
    """How many galaxies there are, and in which chunks: known from the start, but where it takes a query to know."""
    return PLAN or plan_run(settings, checkpoints.query.get().output.table, f"{RESULTS}/catalog.parquet")


def shards(wildcards):
    return shard_names(plan(wildcards).galaxies, settings.images.shard_size)
