# tidalkin: from a few galaxies you point at to all that look like them.
#
# catalog -> fetch -> convert -> train -> whiten -> embed -> index -> search, evaluate
#
# Each rule below lives in the file of its stage, names one script in workflow/scripts, and hands it exactly the
# configuration values that change its output: change a value, and only what depends on it runs again.

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.0")

# The package beside this file is used here, by every script and by every process that a script starts: also where the
# environment has that of another clone, and where this file is a module of another workflow.
PACKAGE = Path(str(workflow.current_basedir.join("workflow").get_path_or_uri(secret_free=True))).absolute()
sys.path.insert(0, str(PACKAGE))

import tidalkin

if Path(tidalkin.__file__).parents[1].resolve() != PACKAGE.resolve():
    raise WorkflowError(
        f"the workflow in {PACKAGE.parent} cannot use its own package, since that of "
        f"{Path(tidalkin.__file__).parents[2]} is in use already: run the two workflows one after the other"
    )

from tidalkin.config import load_settings
from tidalkin.errors import TidalkinError
from tidalkin.stage import lend_package

lend_package(PACKAGE)

# A file named with --configfile replaces the default run; it does not mix with it.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


try:
    settings = load_settings(config)
except TidalkinError as error:
    raise WorkflowError(str(error)) from None

RESULTS = f"results/{settings.run}"


wildcard_constraints:
    chunk=r"\d+-[0-9a-f]+",
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
        ranking(),
        mosaics(),
        evaluation(),


localrules:
    all,
