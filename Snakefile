# tidalkin: from a few galaxies you point at to all that look like them.
#
# catalog -> fetch -> convert -> train -> whiten -> embed -> index -> search, evaluate
#
# Each rule below lives in the file of its stage, names one script in workflow/scripts, and hands it exactly the
# configuration values that change its output: change a value, and only what depends on it runs again.

import sys

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.0")

# The package is imported from here by this file, by every script, and on every compute node: nothing to install.
sys.path.insert(0, f"{workflow.basedir}/workflow")

from tidalkin.config import load_settings
from tidalkin.errors import TidalkinError

# A file named with --configfile replaces the default run; it does not mix with it.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


try:
    settings = load_settings(config)
except TidalkinError as error:
    raise WorkflowError(str(error)) from None

RESULTS = f"results/{settings.run}"


wildcard_constraints:
    chunk=r"\d+",
    shard=r"\d+",
    part=r"\d+",
    query=r"[A-Za-z0-9][A-Za-z0-9_-]*",


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/catalog.smk"
include: "workflow/rules/fetch.smk"
include: "workflow/rules/convert.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/embed.smk"
include: "workflow/rules/index.smk"
include: "workflow/rules/search.smk"
include: "workflow/rules/evaluate.smk"


rule all:
    default_target: True
    input:
        training_pictures(),
        f"{RESULTS}/index/report.json",
        mosaics(),
        evaluation(),


localrules:
    all,
