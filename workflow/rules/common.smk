# What the rules share: what there is to fetch, the files of each stage, and memory that grows on retry.

from functools import cache

from tidalkin.catalog.partition import parts_of, shard_names
from tidalkin.catalog.plan import made_from
from tidalkin.config import declare
from tidalkin.search.check import check_queries, cutout_files
from tidalkin.sources.plan import plan_run, planned_objects

ENVIRONMENT = "../../envs/tidalkin.yaml"

# The version of each rule's output. A profile says that the text of the code does not count: a comment must not train
# again. So raise a version here where a change of the code changes an output that is made from the same inputs. The
# version of `fetch` is `tidalkin.catalog.plan.FETCH_VERSION`, since it is part of the chunks' names.
VERSIONS = {
    "query": 1,
    "catalog": 1,
    "chunks": 1,
    "convert": 1,
    "reuse_whitening": 1,
    "whiten": 1,
    "embed": 1,
    "baseline_random": 1,
    "baseline_pca": 1,
    "baseline_morphology": 1,
    "evaluate": 1,
    "index_train": 1,
    "index_part": 1,
    "index": 1,
    "search": 1,
    "rank": 1,
    "views": 1,
    "reuse_encoder": 1,
    "train": 1,
}

# The table that the catalog is made from; the simulated survey has none.
TABLE = {"simulated": None, "file": settings.catalog.path, "hsc_sql": f"{RESULTS}/query.csv.gz"}[
    settings.catalog.source
]
QUERY_TABLE = {"table": TABLE} if settings.catalog.source == "hsc_sql" else {}

try:
    PLAN = plan_run(settings, TABLE, f"{RESULTS}/catalog.parquet")
except TidalkinError as error:
    raise WorkflowError(str(error)) from None


def uses(*keys, simulated=()):
    """Declare the settings that decide a rule's output; its script may read these, and no others.

    Those in ``simulated`` matter only where the survey is drawn. Leave out what controls how a result is computed
    (`compute`, for example): changing it must run nothing again.
    """
    is_drawn = settings.cutouts.source == "simulated"
    return declare(settings, *keys, *(simulated if is_drawn else ()))


def check_searches():
    """Refuse queries for what is not there, before anything is fetched or trained for them."""
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
    """Plan a run whose table the catalog server has just given."""
    check_searches()
    return plan_run(settings, table, f"{RESULTS}/catalog.parquet")


def plan(wildcards):
    """How many galaxies there are, and in which chunks: known from the start, unless it takes a query to know."""
    return PLAN or plan_after_query(checkpoints.query.get().output.table)


def table_digest(wildcards):
    """Digest of the user's table; the catalog server's answer is an input, which Snakemake compares itself."""
    return made_from(settings, TABLE) if settings.catalog.source == "file" else None


def tars(wildcards):
    return [f"{RESULTS}/cutouts/{chunk}.tar" for chunk in plan(wildcards).chunks]


def ledgers(wildcards):
    return [f"{RESULTS}/cutouts/{chunk}.ledger.parquet" for chunk in plan(wildcards).chunks]


def shards(wildcards):
    return shard_names(plan(wildcards).galaxies, settings.images.shard_size)


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


def parts(wildcards):
    """The shards of each part of the index, by its name."""
    return parts_of(shards(wildcards), settings.index.shards_per_part)


def part_vectors(wildcards):
    return vector_files(parts(wildcards)[wildcards.part])


def part_vector_ids(wildcards):
    return id_files(parts(wildcards)[wildcards.part])


def index_parts(wildcards):
    """What the index is joined from; nothing, where one job does all."""
    names = parts(wildcards)
    if len(names) == 1:
        return {}
    folder = f"{RESULTS}/index/parts"
    return {"trained": f"{folder}/trained.faiss", "parts": [f"{folder}/{name}.faiss" for name in names]}


def query_files(wildcards):
    """FITS files of the galaxy that a query brings along, if it does."""
    template = settings.search.queries[wildcards.query].cutout
    return cutout_files(template, settings.cutouts.bands) if template else []


def training_pictures():
    """What the training leaves to look at, where there is one."""
    names = [] if settings.reuse.encoder else ["history", "views"]
    return [f"{RESULTS}/encoder/{name}.png" for name in names]


def mosaics():
    return [f"{RESULTS}/search/{query}/mosaic.png" for query in settings.search.queries]


def ranking():
    """Name the ranking of the whole survey, where the encoder learns from injected light."""
    return [f"{RESULTS}/ranking.parquet"] if settings.injection.enabled else []


def evaluation():
    """What the evaluation leaves, where the configuration asks for it."""
    return [f"{RESULTS}/evaluation/metrics.csv"] if settings.evaluation.enabled else []


def growing(megabytes):
    """Memory for a job: the first try asks for ``megabytes``, the second for twice that, and so on."""

    def memory(wildcards, attempt):
        return megabytes * attempt

    return memory
