"""Where tasks run: in this process, on local processes, or on a Ray cluster. The same bits everywhere.

A task carries its own seed, so the answer does not depend on how many workers there are or in which order they end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from foliocast.core.errors import MissingExtraError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def one_thread() -> None:
    """One BLAS thread a process unless the user said otherwise: spinning threads starve the other workers."""
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")


def cpu_count() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


class Compute:
    """Maps a function over independent tasks and yields the results in the tasks' order.

    Parameters
    ----------
    jobs : int
        Worker processes; 1 runs here, 0 takes one a processor.
    cluster : str or None
        Address of a Ray cluster ("auto", "ray://host:10001"); needs the extra ``scale``.
    on_done : callable, optional
        Called with the number of finished tasks after each.
    """

    def __init__(self, jobs: int = 1, cluster: str | None = None, on_done: Callable[[int], None] | None = None) -> None:
        self.jobs = jobs or cpu_count()
        self.cluster = cluster
        self.on_done = on_done

    def __call__(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
        for done, result in enumerate(self._results(function, tasks), start=1):
            if self.on_done is not None:
                self.on_done(done)
            yield result

    def _results(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterable[Any]:
        if self.cluster is None and (self.jobs == 1 or len(tasks) < 2):
            return (function(task) for task in tasks)
        one_thread()
        from joblib import Parallel, delayed, parallel_config

        if self.cluster is not None:
            _connect(self.cluster)
            with parallel_config(backend="ray"):
                return Parallel(n_jobs=-1, return_as="list")(delayed(function)(task) for task in tasks)
        run = Parallel(n_jobs=self.jobs, return_as="generator", pre_dispatch="2*n_jobs", max_nbytes="1M")
        return run(delayed(_pinned)(function, task) for task in tasks)


def _pinned(function: Callable[[Any], Any], task: Any) -> Any:
    one_thread()
    return function(task)


def _connect(address: str) -> None:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise MissingExtraError("ray", "scale") from error
    if not ray.is_initialized():
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    register_ray()
