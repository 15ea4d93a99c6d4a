"""The remedy: a recovery function that does not trust a snapshot which led into a fault.

The unstable counter saves 199 and overflows half a second later, again and again: its snapshot
is *suspect*. Left alone, its restart limit would end it. This one goes on from a snapshot once;
if that leads into a fault before a newer one was saved, it goes on from the one before.
"""

from examples.unstable_counter.counter import UnstableCounter
from kompyct import FaultContext, RecoveryHandler


class CarefulCounter(UnstableCounter):
    def save(self) -> None:
        self.set_recovery_function(recover_carefully, snapshot=self.count)


def recover_carefully(fault: FaultContext[int]) -> RecoveryHandler:
    return fault.step_back(CarefulCounter)
