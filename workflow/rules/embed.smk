# Turn every image into a vector, with one job per shard. The whitening is fitted on a sample, or taken from another run.


if settings.reuse.whitening:

    rule reuse_whitening:
        input:
            whitening=settings.reuse.whitening,
            encoder=f"{RESULTS}/encoder/encoder.pt",
        output:
            f"{RESULTS}/whitening.npz",
        log:
            f"{RESULTS}/logs/reuse_whitening.log",
        conda:
            ENVIRONMENT
        resources:
            mem_mb=growing(2000),
            runtime=10,
        params:
            version=VERSIONS["reuse_whitening"],
            content=lambda wildcards: content_digest([settings.reuse.whitening]),
            settings=uses("embedding"),
        script:
            "../scripts/reuse_whitening.py"

else:

    rule whiten:
        input:
            images=f"{RESULTS}/images.json",
            encoder=f"{RESULTS}/encoder/encoder.pt",
        output:
            f"{RESULTS}/whitening.npz",
        log:
            f"{RESULTS}/logs/whiten.log",
        benchmark:
            f"{RESULTS}/benchmarks/whiten.tsv"
        conda:
            ENVIRONMENT
        threads: 8
        resources:
            mem_mb=growing(8000),
            runtime=120,
            gpu=min(settings.compute.gpus, 1),
        params:
            version=VERSIONS["whiten"],
            settings=uses("embedding", "augment", "seed"),
        script:
            "../scripts/whiten.py"


# The ledgers stand for the cutouts of the shard: they change where failed ones are asked for again.
rule embed:
    input:
        images=images_of_shard,
        ledgers=ledgers_of_shard,
        encoder=f"{RESULTS}/encoder/encoder.pt",
        whitening=f"{RESULTS}/whitening.npz",
    output:
        # Only an encoder that learned from injected light has debris maps.
        **({"debris_maps": f"{RESULTS}/embeddings/{{shard}}.debris_map.npy"} if settings.injection.enabled else {}),
        vectors=f"{RESULTS}/embeddings/{{shard}}.npy",
        ids=f"{RESULTS}/embeddings/{{shard}}.ids.npy",
        record=f"{RESULTS}/embeddings/{{shard}}.json",
    log:
        f"{RESULTS}/logs/embed/{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/embed/{{shard}}.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=growing(4000),
        runtime=120,
        gpu=min(settings.compute.gpus, 1),
    params:
        version=VERSIONS["embed"],
        shard=shard_digest,
        settings=uses("embedding"),
    script:
        "../scripts/embed.py"
