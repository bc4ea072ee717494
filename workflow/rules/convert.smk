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


# One job per shard reads the images. Snakemake compares each of its inputs with all inputs of the job that makes it,
# and a conversion has two per chunk, so that the plan would cost the product of chunks and shards. This job has one.
rule images_digest:
    input:
        f"{RESULTS}/images.json",
    output:
        f"{RESULTS}/images.digest",
    log:
        f"{RESULTS}/logs/images_digest.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        version=VERSIONS["images_digest"],
    script:
        "../scripts/images_digest.py"
