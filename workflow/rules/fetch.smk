# Fetch the cutouts of one chunk of the catalog. The results are a tar of FITS files as the archive sent them, and a
# ledger with the status of each object and band.


# A chunk's name holds a digest of everything that determines its cutouts, so it is fetched if, and only if, its file is
# missing, or if the user's own files that it reads have changed. A change of another chunk has no effect on it.
rule fetch:
    input:
        ancient(f"{RESULTS}/chunks"),
    output:
        **({"files": f"{RESULTS}/cutouts/{{chunk}}.files.txt"} if settings.cutouts.source in LOCAL_SOURCES else {}),
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
        # Only for the user's own files. With another source, any new value here would start its downloads again.
        **({"files": chunk_files_digest} if settings.cutouts.source in LOCAL_SOURCES else {}),
        settings=uses("cutouts", simulated=["seed"]),
    script:
        "../scripts/fetch.py"
