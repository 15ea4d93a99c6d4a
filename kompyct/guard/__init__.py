"""Which names does a guarded program need? Those of faultguard 1.1.1, and what it lacks.

::

    from kompyct import guard

    def launch(data, args):
        data["results"] = []
        ...

    def rescue(data, exit_code, args):
        save(data["results"])

    if __name__ == "__main__":
        guard.start(launch, rescue, args=..., autosave_interval=10, autosave_file="autosave.xz")
"""

from kompyct.guard.application import wrapped_launch
from kompyct.guard.dictionary import GuardedDict
from kompyct.guard.handed import LostChangeWarning
from kompyct.guard.program import start
from kompyct.guard.recovery import is_active, recover

FaultguardDict = GuardedDict
"""What faultguard calls it."""

__all__ = [
    "FaultguardDict",
    "GuardedDict",
    "LostChangeWarning",
    "is_active",
    "recover",
    "start",
    "wrapped_launch",
]
