# Which galaxies: check the catalog, and split it into chunks that stay what they are when the catalog grows.

# A checkpoint, so that Snakemake looks at the chunks anew when a catalog has grown: those that are as before are not
# fetched again.


def catalog_inputs(settings):
    """The files the catalog is made from: the table itself, or the SQL that asks for it."""
    source = settings.catalog
    files = {
        "simulated": {},
        "file": {"table": source.path},
        "hsc_sql": {"query": source.query},
    }
    return files[source.source]


checkpoint catalog:
    input:
        **catalog_inputs(settings),
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
        survey=(settings.cutouts.simulated.model_dump() if settings.catalog.source == "simulated" else None),
        seed=settings.seed if settings.catalog.source == "simulated" else None,
    script:
        "../scripts/catalog.py"
