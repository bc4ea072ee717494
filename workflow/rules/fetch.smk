# The cutouts of one chunk of the catalog: a tar of FITS files as the archive sent them, and a ledger of what became of
# each object in each band.


# A chunk's name holds a digest of all that decides its cutouts: it is fetched if, and only if, its file is not there.
# So neither a change of another chunk nor the order in which Snakemake looks at things can fetch it, or leave it out.
rule fetch:
    input:
        ancient(f"{RESULTS}/chunks"),
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
        hsc_connections=int(settings.cutouts.source in ("hsc_das", "hsc_patches", "hips2fits")),
    params:
        settings=uses("cutouts", simulated=["seed"]),
    script:
        "../scripts/fetch.py"
