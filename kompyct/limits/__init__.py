"""What may take only so long, or only so much memory? The names of Resiliparse's process guards.

::

    from kompyct.limits import ExecutionTimeout, progress, time_guard

    try:
        with time_guard(timeout=10):
            for page in pages:
                parse(page)
                progress()  # ten seconds for each
    except ExecutionTimeout as timeout:
        print(timeout.stack)

A component has the same by `time_limit=` and `memory_limit=` of `create`.
"""

from kompyct.errors import ExecutionTimeout, LimitError, LimitInterrupt, MemoryLimitExceeded
from kompyct.limits.ladder import InterruptType
from kompyct.limits.memory import MemGuard, mem_guard
from kompyct.limits.times import TimeGuard, progress, progress_loop, time_guard

ResiliparseGuardException = LimitInterrupt
"""What Resiliparse calls it."""

__all__ = [
    "ExecutionTimeout",
    "InterruptType",
    "LimitError",
    "LimitInterrupt",
    "MemGuard",
    "MemoryLimitExceeded",
    "ResiliparseGuardException",
    "TimeGuard",
    "mem_guard",
    "progress",
    "progress_loop",
    "time_guard",
]
