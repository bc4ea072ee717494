# The cutouts of one chunk of the catalog: a tar of FITS files as the archive sent them, and a ledger of what became of
# each object in each band.


def chunk_catalog(wildcards):
    catalog_file(wildcards)
    return f"{RESULTS}/chunks/{wildcards.chunk}.parquet"


rule fetch:
    input:
        chunk_catalog,
    output:
        tar=f"{RESULTS}/cutouts/{{chunk}}.tar",
        ledger=f"{RESULTS}/cutouts/{{chunk}}.ledger.parquet",
    log:
        f"{RESULTS}/logs/fetch/{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fetch/{{chunk}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(1000),
        runtime=24 * 60,
    params:
        cutouts=settings.cutouts.content(),
        seed=settings.seed if settings.cutouts.source == "simulated" else None,
    script:
        "../scripts/fetch.py"
