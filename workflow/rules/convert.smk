# Convert all cutouts to one Zarr store of calibrated flux on a common grid, with sky noise and seeing.


# The output is the list of the store's shards, and not the store itself. Otherwise Snakemake would delete the store
# before a conversion that may fail, and would compare the time of a folder, which any copy changes.
rule convert:
    input:
        objects=f"{RESULTS}/objects.parquet",
        tars=tars,
        ledgers=ledgers,
    output:
        images=f"{RESULTS}/images.json",
        problems=f"{RESULTS}/images.problems.csv",
    log:
        f"{RESULTS}/logs/convert.log",
    benchmark:
        f"{RESULTS}/benchmarks/convert.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=growing(4000),
        runtime=12 * 60,
    params:
        version=VERSIONS["convert"],
        settings=uses("cutouts.bands", "images"),
    script:
        "../scripts/convert.py"
