# tidalkin: find the galaxies that look like the ones you point at.
#
# catalog -> fetch -> convert -> train -> whiten -> embed -> index -> search, evaluate, completeness
#
# This file is the table of contents. Each stage has a file of rules, and each rule calls one script in
# workflow/scripts. The `params` of a rule are exactly the configuration values that change its output. After a change
# of a value, only the jobs that depend on it run again.

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.0")

# Import the package beside this file, here, in every script, and in every process that a script starts. This must hold
# even if the environment has the package of another clone, or if this file is a module of another workflow.
PACKAGE = Path(str(workflow.current_basedir.join("workflow").get_path_or_uri(secret_free=True))).absolute()
sys.path.insert(0, str(PACKAGE))

import tidalkin

if Path(tidalkin.__file__).parents[1].resolve() != PACKAGE.resolve():
    raise WorkflowError(
        f"the workflow in {PACKAGE.parent} cannot use its own package, because the package of "
        f"{Path(tidalkin.__file__).parents[2]} is already imported: run the two workflows one after the other"
    )

if " " in sys.executable:
    raise WorkflowError(
        f"the Python in '{sys.executable}' has a space in its path, which Snakemake cannot handle: "
        "make the environment in a path without spaces"
    )

from tidalkin.config import SETTINGS_FILE, load_settings, read_config_file, write_config_file
from tidalkin.errors import TidalkinError
from tidalkin.slurm import check_accounting
from tidalkin.stage import lend_package

lend_package(PACKAGE)

# A file given with --configfile replaces the default configuration and does not mix with it.
DEFAULT_CONFIG = "config/config.yaml"
try:
    # The configuration of a module belongs to the workflow that uses it.
    if workflow.is_main_process and not workflow.modifier.skip_configfile:
        # Snakemake has read a file given with --configfile already. The default one is checked before it is read.
        for file in workflow.configfiles or [DEFAULT_CONFIG]:
            read_config_file(file)
except TidalkinError as error:
    raise WorkflowError(str(error)) from None

if not workflow.overwrite_configfiles:

    configfile: DEFAULT_CONFIG


try:
    settings = load_settings(config)
except TidalkinError as error:
    raise WorkflowError(str(error)) from None

RESULTS = f"results/{settings.run}"


onstart:
    if FAULTS:
        raise WorkflowError(FAULTS[0])
    try:
        check_accounting(getattr(workflow.executor_settings, "status_command", None))
        heading = (
            f"The settings of this run at its latest start, with all defaults (tidalkin {tidalkin.__version__})."
        )
        write_config_file(f"{RESULTS}/{SETTINGS_FILE}", settings, heading)
    except TidalkinError as error:
        raise WorkflowError(str(error)) from None


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
include: "workflow/rules/completeness.smk"


rule all:
    default_target: True
    input:
        training_pictures(),
        f"{RESULTS}/index/report.json",
        ranking(),
        f"{RESULTS}/map.parquet",
        mosaics(),
        evaluation(),
        completeness(),


localrules:
    all,
