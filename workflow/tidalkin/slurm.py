"""Check that a SLURM cluster can report on the jobs of a run."""

from __future__ import annotations

import subprocess

from tidalkin.errors import TidalkinError

LONGEST_ANSWER_SECONDS = 60.0


def check_accounting(status_command: str | None) -> None:
    """Refuse to start jobs whose end Snakemake would not notice.

    Snakemake asks `sacct` for the state of its jobs, unless it is told otherwise. Without an accounting database it
    gets no answer, and waits for minutes after each job.

    Parameters
    ----------
    status_command : str or None
        The setting `slurm-status-command` of Snakemake; none where the jobs do not run on SLURM.

    Raises
    ------
    TidalkinError
        If `sacct` is to be asked and does not answer.

    Examples
    --------
    >>> check_accounting("squeue")  # needs no accounting database
    >>> check_accounting("sacct")  # doctest: +SKIP
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: SLURM's accounting does not work (sacct: Slurm accounting storage is disabled): add
    the line `slurm-status-command: squeue` to the profile, so that Snakemake asks the queue for the state of its jobs
    """
    if status_command != "sacct":
        return
    command = ["sacct", "--noheader", "--starttime=now"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_ANSWER_SECONDS, check=False)
    except FileNotFoundError:
        return  # Snakemake asks `squeue` then.
    except subprocess.TimeoutExpired:
        reason = f"no answer in {LONGEST_ANSWER_SECONDS:.0f} seconds"
    else:
        if done.returncode == 0:
            return
        reason = done.stderr.strip().partition("\n")[0] or f"exit status {done.returncode}"
    raise TidalkinError(
        f"SLURM's accounting does not work (sacct: {reason}): add the line `slurm-status-command: squeue` to the "
        "profile, so that Snakemake asks the queue for the state of its jobs"
    )
