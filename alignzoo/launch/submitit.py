"""Members of a sweep as Slurm's jobs, through submitit: who is stopped is queued again, who is lost stops no other."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from alignzoo.system.errors import print_error

lost: list[str] = []  #: Slurm's numbers of the jobs that ended without a result


def requeue(reason: str) -> None:
    """In such a job, queue it again and end the program; ``reason`` says what ended the training, which is saved.

    Returns outside of such a job, after SIGTERM (who cancels a job does not want it back, and a scheduler that preempts
    it queues it itself), and where it ran out of time more than ``hydra.launcher.max_num_timeout`` times.
    """
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm" or reason.startswith(signal.SIGTERM.name):
        return
    print(f"alignzoo: stopped by {reason}.", file=sys.stderr, flush=True)
    try:  # submitit listened to this signal before the run did, and does again
        signal.raise_signal(signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"])
    except RuntimeError as error:
        print_error(str(error))


def wait_for_all() -> None:
    """Let a sweep wait for all of its jobs: the launcher's wait would end with the first that was killed."""
    from hydra.core.utils import JobReturn, JobStatus
    from submitit.core.core import Job
    from submitit.core.utils import UncompletedJobError

    lost.clear()
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
