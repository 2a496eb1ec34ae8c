"""Requeues preempted sweep jobs on Slurm through submitit, and waits for the others when one is lost."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from alignzoo.system.errors import print_error


def requeue(reason: str) -> None:
    """Requeue the submitit job that this process is in, and end the program; ``reason`` says what ended the training.

    Returns outside of such a job, after SIGTERM (a cancelled job must not return, and a scheduler that preempts a job
    requeues it itself), and after more than ``hydra.launcher.max_num_timeout`` timeouts.
    """
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm" or reason.startswith(signal.SIGTERM.name):
        return
    print(f"alignzoo: stopped by {reason}.", file=sys.stderr, flush=True)
    try:  # submitit listened to this signal before the run did, and does again
        signal.raise_signal(signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"])
    except RuntimeError as error:
        print_error(str(error))


def wait_for_all() -> list[str]:
    """Let a sweep wait for all of its jobs: the launcher would stop at the first that was killed.

    Returns a list to which Slurm's numbers of the jobs are added that end without a result.
    """
    from hydra.core.utils import JobReturn, JobStatus
    from submitit.core.core import Job
    from submitit.core.utils import UncompletedJobError

    lost: list[str] = []
    results = getattr(Job.results, "of_submitit", Job.results)

    def results_or_none(job: Any) -> list[Any]:
        try:
            found: list[Any] = results(job)
            return found
        except UncompletedJobError:
            lost.append(job.job_id)
            print_error(f"job {job.job_id} ended without a result ({job.state}). Its log: {job.paths.stderr}")
            return [JobReturn(status=JobStatus.COMPLETED, _return_value=None)]

    results_or_none.of_submitit = results  # type: ignore[attr-defined]
    # patch: submitit Job.results
    Job.results = results_or_none
    return lost
