# What all stages share: the environment, and memory that grows on retry.

from tidalkin.catalog import shard_names
from tidalkin.planning import plan_run

ENVIRONMENT = "../../envs/tidalkin.yaml"


def growing(megabytes):
    """Memory for a job: the first try asks for ``megabytes``, the second for twice that, and so on."""

    def memory(wildcards, attempt):
        return megabytes * attempt

    return memory
