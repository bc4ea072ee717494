# Shared by the rules: the plan of the run, the files of each stage, and memory that grows on retry.

from functools import cache

from snakemake.logging import logger

from tidalkin.catalog.partition import parts_of, shard_names
from tidalkin.catalog.plan import chunks_of_shard, made_from, shard_digests
from tidalkin.config import declare
from tidalkin.digest import content_digest
from tidalkin.embedding.record import VectorRecord
from tidalkin.injection.stamp_files import stamps_digest
from tidalkin.run_check import check_index, check_labels, check_paths, check_training
from tidalkin.search.check import check_queries, cutout_files
from tidalkin.sources.local_files import LOCAL_SOURCES, LocalFiles
from tidalkin.sources.plan import plan_run, planned_objects

ENVIRONMENT = "../../envs/tidalkin.yaml"

# The version of each rule's output. The profiles ignore changes of the code, so that a new comment does not train again.
# If a change of the code changes an output, raise its version here. The version of `fetch` is
# `tidalkin.catalog.plan.FETCH_VERSIONS`, because it is part of the chunks' names.
VERSIONS = {
    "query": 1,
    "catalog": 1,
    "chunks": 1,
    "convert": 2,
    "images_digest": 1,
    "reuse_whitening": 1,
    "whiten": 3,
    "embed": 3,
    "baseline_random": 5,
    "baseline_pca": 5,
    "baseline_morphology": 5,
    "evaluate": 4,
    "completeness": 4,
    "index_train": 1,
    "index_part": 1,
    "index": 1,
    "search": 2,
    "rank": 3,
    "map": 1,
    "views": 1,
    "reuse_encoder": 1,
    "train": 4,
}

# The table from which the catalog is made. The simulated survey has none.
TABLE = {"simulated": None, "file": settings.catalog.path, "hsc_sql": f"{RESULTS}/query.csv.gz"}[
    settings.catalog.source
]
QUERY_TABLE = {"table": TABLE} if settings.catalog.source == "hsc_sql" else {}

try:
    if workflow.is_main_process:
        check_paths(settings, RESULTS, is_module=not workflow.modifier.is_main_snakefile())
        check_index(settings.index.kind)
    PLAN = plan_run(settings, TABLE, f"{RESULTS}/catalog.parquet")
    # The content of the user's stamps, so that training runs again when they change.
    STAMPS = stamps_digest(settings.injection.stamps) if settings.injection.enabled else ""
except TidalkinError as error:
    raise WorkflowError(str(error)) from None


def uses(*keys, simulated=()):
    """Declare the settings that decide a rule's output. Its script may read these, and no others.

    Settings in ``simulated`` are added if the survey is simulated. Leave out settings that control how a result is
    computed, such as `compute`, because changing them must run nothing again.
    """
    is_drawn = settings.cutouts.source == "simulated"
    return declare(settings, *keys, *(simulated if is_drawn else ()))


def check_searches():
    """Refuse queries for missing galaxies or files before anything is fetched or trained."""
    if not (settings.search.queries and workflow.is_main_process):
        return
    try:
        objects = planned_objects(settings, TABLE, f"{RESULTS}/catalog.parquet")
        check_queries(settings.search, settings.cutouts.bands, objects)
    except TidalkinError as error:
        raise WorkflowError(str(error)) from None


if PLAN:
    check_searches()


@cache
def plan_after_query(table):
    """Plan a run after the catalog server has sent its table."""
    check_searches()
    return plan_run(settings, table, f"{RESULTS}/catalog.parquet")


def plan(wildcards):
    """Return the plan of the run. It exists from the start, unless the catalog server must be queried first."""
    return PLAN or plan_after_query(checkpoints.query.get().output.table)


@cache
def object_ids():
    """Return the object_id of each galaxy, in the order of the catalog."""
    return planned_objects(settings, TABLE, f"{RESULTS}/catalog.parquet", ["object_id"])["object_id"].to_pylist()


@cache
def local_files():
    """Return the user's own image files; None if they are not here, as in a run copied to another machine."""
    try:
        files = LocalFiles(settings.cutouts)
    except TidalkinError:
        return None
    return files if files.has_any(object_ids()) else None


def chunk_files_digest(wildcards):
    """Digest the user's own files that hold the images of a chunk.

    If none of the survey's files is here, what was made from them stays as it is.
    """
    if local_files() is None:
        noted = Path(f"{RESULTS}/cutouts/{wildcards.chunk}.files.txt")
        return noted.read_text() if noted.exists() else ""
    size, number = settings.catalog.chunk_size, int(wildcards.chunk.partition("-")[0])
    return local_files().digest(object_ids()[number * size : (number + 1) * size])


FAULTS = []


@cache
def check(test, *arguments):
    """Note what cannot work in the plan of a run, so that `onstart` refuses the run. A dry run gets a warning.

    A run of some stages alone (`--until`) may leave out just that.
    """
    if workflow.is_main_process and not (workflow.dag_settings.until or workflow.dag_settings.omit_from):
        try:
            test(settings, *arguments)
        except TidalkinError as error:
            FAULTS.append(str(error))
            if workflow.dryrun:
                logger.warning(f"This run will be refused: {error}")


def images_to_train_on(wildcards):
    check(check_training, plan(wildcards).galaxies)
    return f"{RESULTS}/images.json"


def labelled_catalog(wildcards):
    if TABLE is not None:
        check(check_labels, TABLE, f"{RESULTS}/catalog.parquet")
    return f"{RESULTS}/catalog.parquet"


def table_digest(wildcards):
    """Digest the user's own table. Snakemake itself compares the catalog server's answer, which is an input."""
    return made_from(settings, TABLE) if settings.catalog.source == "file" else None


def tars(wildcards):
    return [f"{RESULTS}/cutouts/{chunk}.tar" for chunk in plan(wildcards).chunks]


def ledgers(wildcards):
    return [f"{RESULTS}/cutouts/{chunk}.ledger.parquet" for chunk in plan(wildcards).chunks]


def shards(wildcards):
    return shard_names(plan(wildcards).galaxies, settings.images.shard_size)


# Without an argument: to find a plan in the cache, Python hashes all of its chunks, and every shard calls this.
@cache
def digests_of_shards():
    return shard_digests(settings, plan(None), [VERSIONS["convert"], VERSIONS["embed"]])


def shard_digest(wildcards):
    """Digest of what decides a shard's vectors, apart from the encoder, the whitening and what was received."""
    return digests_of_shards()[wildcards.shard]


def ledgers_of_shard(wildcards):
    chunks = chunks_of_shard(settings, plan(wildcards), wildcards.shard)
    return [f"{RESULTS}/cutouts/{chunk}.ledger.parquet" for chunk in chunks]


def images_of_shard(wildcards):
    """Return the file that stands for the images.

    This is their digest. With a reused encoder and whitening, it is the list of images. A shard whose record says that
    its vectors stay the same then ignores the time of the list. The digest would not do
    there: below a job that runs, Snakemake compares no other input of the shard.
    """
    if not (settings.reuse.encoder and settings.reuse.whitening):
        return f"{RESULTS}/images.digest"
    images = f"{RESULTS}/images.json"
    if not workflow.is_main_process:
        return images
    made = VectorRecord.of(
        shard_digest(wildcards),
        f"{RESULTS}/encoder/encoder.pt",
        f"{RESULTS}/whitening.npz",
        ledgers_of_shard(wildcards),
    )
    is_kept = made is not None and made.is_at(f"{RESULTS}/embeddings/{wildcards.shard}.json")
    return ancient(images) if is_kept else images


def vector_files(shards):
    return [f"{RESULTS}/embeddings/{shard}.npy" for shard in shards]


def id_files(shards):
    return [f"{RESULTS}/embeddings/{shard}.ids.npy" for shard in shards]


def vectors(wildcards):
    return vector_files(shards(wildcards))


def vector_ids(wildcards):
    return id_files(shards(wildcards))


def debris_maps(wildcards):
    return [f"{RESULTS}/embeddings/{shard}.debris_map.npy" for shard in shards(wildcards)]


@cache
def parts():
    """Return the shards of each part of the index, by the part's name."""
    return parts_of(shards(None), settings.index.shards_per_part)


def part_vectors(wildcards):
    return vector_files(parts()[wildcards.part])


def index_parts(wildcards):
    """Return the files from which the index is joined, or none if a single job builds it."""
    names = parts()
    if len(names) == 1:
        return {}
    folder = f"{RESULTS}/index/parts"
    return {"trained": f"{folder}/trained.faiss", "parts": [f"{folder}/{name}.faiss" for name in names]}


def query_files(wildcards):
    """Return the FITS files of a query's own galaxy, if it has one."""
    template = settings.search.queries[wildcards.query].cutout
    return cutout_files(template, settings.cutouts.bands) if template else []


def query_ranking(wildcards):
    """The ranking by debris score, for a query with no example."""
    return ranking() if settings.search.queries[wildcards.query].debris else []


def training_pictures():
    """Return the pictures of the training, if the run trains."""
    names = [] if settings.reuse.encoder else ["history", "views"]
    return [f"{RESULTS}/encoder/{name}.png" for name in names]


def mosaics():
    return [f"{RESULTS}/search/{query}/mosaic.png" for query in settings.search.queries]


def ranking():
    """Return the ranking of the whole survey, if the encoder learns from injected light."""
    return [f"{RESULTS}/ranking.parquet"] if settings.injection.enabled else []


def evaluation():
    """Return the result of the evaluation, if it is enabled."""
    return [f"{RESULTS}/evaluation/metrics.csv"] if settings.evaluation.enabled else []


def completeness():
    """Name the completeness by injection, where the encoder has learned from injected light."""
    if not settings.completeness.enabled:
        return []
    if not settings.injection.enabled:
        if workflow.is_main_process:
            logger.info(
                "No ranking and no completeness: injection.head_weight and injection.map_weight are 0, "
                "so that the encoder has no debris map."
            )
        return []
    return [f"{RESULTS}/evaluation/completeness.csv"]


def growing(megabytes):
    """Return the memory of a job: ``megabytes`` on the first attempt, twice as much on the second, and so on."""

    def memory(wildcards, attempt):
        return megabytes * attempt

    return memory
