"""Plan a finished run under many configurations, and print the rules that would run.

    python plan_changes.py FOLDER < configurations.json

Standard input is a list of configurations; the output a list of lists of rules, or of error messages.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.enums import Quietness, RerunTrigger
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

ROOT = Path(__file__).resolve().parents[2]
PROFILE = yaml.safe_load((ROOT / "profiles" / "default" / "config.yaml").read_text())


def planned(folder: Path, config: dict) -> list[str]:
    """Return the rules that Snakemake would run, as `snakemake -n` with the default profile."""
    configfile = folder / "planned.json"
    configfile.write_text(json.dumps(config))
    triggers = frozenset(RerunTrigger.parse_choice(name) for name in PROFILE["rerun-triggers"])
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL}, stdout=False)) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[configfile]),
            snakefile=ROOT / "Snakefile",
            workdir=folder,
        )
        dag = workflow.dag(
            DAGSettings(rerun_triggers=triggers, max_checksum_file_size=PROFILE["max-checksum-file-size"])
        )
        dag.execute_workflow(executor="dryrun")
        jobs = workflow._workflow.dag
        # A dry run counts the jobs that it shows as finished.
        return sorted({job.rule.name for job in (*jobs.needrun_jobs(), *jobs.finished_jobs)} - {"all"})


if __name__ == "__main__":
    print(json.dumps([planned(Path(sys.argv[1]), config) for config in json.load(sys.stdin)]))
