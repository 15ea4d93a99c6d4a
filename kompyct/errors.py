"""What can go wrong, and which error says so? All of them, in one tree.

::

    KompyctError
    ├── Benign                        raised by users: not a fault
    │   └── UnhandledMessageError     the component does not take this message
    ├── Recoverable                   raised by users: a fault, recovery function called
    ├── Unrecoverable                 raised by users: a fault that ends the component
    ├── ArgumentError                 (ValueError) a value out of range
    │   ├── UnknownBackendError
    │   └── LimitRangeError           (OverflowError) a limit that is negative or too large
    ├── ArgumentTypeError             (TypeError) a value of the wrong type
    │   ├── InvalidComponentError     a factory made no component, or one in use
    │   │   └── NotNeededError        it returned NOT_NEEDED, and not to a supervisor
    │   └── UnpicklableError          it cannot go to another process
    ├── BackendMissingError           (ImportError) an extra is not installed
    ├── DuplicateNameError            the name is taken by a living sibling
    ├── ReservedNameError             (AttributeError) `ref`, `log` or `system` assigned
    ├── ChildError                    a supervisor was asked for something it cannot do
    │   ├── ChildNotFoundError        (LookupError) it has no such child
    │   ├── ChildAlreadyStartedError  there is a running child of that id
    │   ├── ChildAlreadyPresentError  there is a stopped child of that id
    │   ├── ChildRunningError         the child is not stopped
    │   ├── ChildRestartingError      the child is about to come back
    │   └── SupervisorEndingError     the supervisor is ending
    ├── RestartLimitError             a supervisor has given up
    ├── ChildEndedError               what it gave up because of, if nothing was raised
    ├── SiblingFaultError             what a fault SIBLING has as its exception
    ├── UnboundComponentError         a component made outside `create`
    ├── NotStartedError               timers and tells to oneself before the start
    ├── ComponentCreateError          a first creation raised
    ├── ComponentFaultError           what somebody waited for faulted
    ├── ComponentDestroyedError       the component has ended for good
    ├── RestartingError               the ask was queued when the component faulted
    ├── AskTimeoutError               (TimeoutError) no reply in time
    ├── AskCircleError                asks that wait for each other
    ├── MailboxFullError              a bounded mailbox is full
    ├── NoMembersError                a group that was asked has no members
    ├── ProcessLostError              what a fault PROCESS_LOST has as its exception
    ├── ProcessExitError              a child process ended, or was ended: what PROCESS_EXIT has
    ├── ProcessStartError             a child process cannot be started
    ├── RemoteError                   stands for an exception that could not travel
    ├── ForkUnsafeError               the process cannot be copied: it has threads
    ├── ForkMissingError              (NotImplementedError) there is no fork on this platform
    ├── GuardError                    a guarded program cannot be started or recovered
    │   └── AutosaveError             (RuntimeError) its autosave is in use, in the way, or damaged
    ├── LimitError                    (RuntimeError) a guard is used where it cannot be
    ├── RecoveryFunctionError         a recovery function answered with something else
    ├── RecoveryTimeoutError          (TimeoutError) it did not answer in time
    ├── SnapshotError                 a snapshot cannot be encoded or decoded
    │   └── RecoveryImportError       a stored recovery function cannot be imported
    ├── StoreError                    (OSError) a store cannot be read or written
    │   ├── DurabilityError           written, but not known to be on the disk
    │   ├── StoreLockedError          (TimeoutError) another living writer has it
    │   ├── CorruptStoreError         (ValueError) what was read is not what was written
    │   ├── VersionError              written by a newer version, or another Python
    │   └── TrustError                a file that might run code of somebody else's
    ├── SystemShutdownError           the system is shutting down or has ended
    └── ShutdownTimeoutError          (TimeoutError) a shutdown took too long

    IncarnationEndedError             (BaseException) a late call by an ended incarnation
    LimitInterrupt                    (BaseException) raised in what has exceeded a limit
    ├── ExecutionTimeout              it took too long
    └── MemoryLimitExceeded           there is too little memory left for it
"""


class KompyctError(Exception):
    """The base of every error of kompyct."""


class Benign(KompyctError):
    """Raise it, or a subclass, for an error that is no fault: it is logged, and life goes on.

    In an ask it goes to the asker only. Source: Kompact's `HandlerError::Benign`.
    """


class Recoverable(KompyctError):
    """Raise it, or a subclass, for a fault that the recovery function is to handle.

    Every exception that is not declared otherwise is treated so.
    """


class Unrecoverable(KompyctError):
    """Raise it, or a subclass, for a fault that ends the component without recovery."""


class UnhandledMessageError(Benign):
    """The component does not take this message; the asker gets this error, nobody faults."""


class ArgumentError(KompyctError, ValueError):
    """An argument is out of range; nothing has been changed."""


class UnknownBackendError(ArgumentError):
    """There is no backend of that name."""


class LimitRangeError(ArgumentError, OverflowError):
    """A limit, or a time, is negative or too large; nothing has been changed."""


class ArgumentTypeError(KompyctError, TypeError):
    """An argument has the wrong type; nothing has been changed."""


class InvalidComponentError(ArgumentTypeError):
    """A factory made something that is no component, or an object that already is one."""


class BackendMissingError(KompyctError, ImportError):
    """A backend needs an optional package that is not installed."""


class DuplicateNameError(KompyctError):
    """The name belongs to a living component of the same parent."""


class NotNeededError(InvalidComponentError):
    """A factory returned `NOT_NEEDED`: there is nothing to run."""


class ReservedNameError(KompyctError, AttributeError):
    """A component class defines or assigns a name that kompyct provides."""


class ChildError(KompyctError):
    """A supervisor was asked for something about a child that it cannot do; nothing was done."""


class ChildNotFoundError(ChildError, LookupError):
    """The supervisor has no such child. Source: OTP's `not_found`."""


class ChildAlreadyStartedError(ChildError):
    """There is a running child of that id. Source: OTP's `already_started`."""


class ChildAlreadyPresentError(ChildError):
    """There is a child of that id, which is stopped. Source: OTP's `already_present`."""


class ChildRunningError(ChildError):
    """The child is running; end it first. Source: OTP's `running`."""


class ChildRestartingError(ChildError):
    """The child is being restarted. Source: OTP's `restarting`."""


class SupervisorEndingError(ChildError):
    """The supervisor is ending, and does nothing more for anybody."""


class RestartLimitError(KompyctError):
    """A supervisor has given up: its children faulted more often than it allows."""


class ChildEndedError(KompyctError):
    """A child has ended by itself; the cause of what follows where no exception is."""


class SiblingFaultError(KompyctError):
    """Nothing was wrong with the component: it is restarted with a sibling, or its supervisor."""


class UnboundComponentError(KompyctError):
    """A component was used that no system created."""


class NotStartedError(KompyctError):
    """Timers and kept resources belong to an active period, and the component is not active."""


class ComponentCreateError(KompyctError):
    """A component's first creation raised; the cause is chained and nothing is left behind."""


class ComponentFaultError(KompyctError):
    """What the caller waited for ended in a fault; the cause is chained."""


class ComponentDestroyedError(KompyctError):
    """The component has ended for good."""


class RestartingError(KompyctError):
    """The ask was queued when the component faulted; it was not handled and may be sent again."""


class AskTimeoutError(KompyctError, TimeoutError):
    """No reply came in time; the request may still be handled."""


class AskCircleError(KompyctError):
    """The ask would wait for ever, since its target waits for the asker."""


class UnpicklableError(ArgumentTypeError):
    """A factory, a message or a reply cannot be pickled, so it cannot go to another process."""


class NoMembersError(KompyctError):
    """A group was asked, and nobody is in it."""


class MailboxFullError(KompyctError):
    """A bounded mailbox is full; the message was not taken."""


class LimitError(KompyctError, RuntimeError):
    """A guard is entered, left or used where it cannot be; nothing has been changed."""


class RecoveryFunctionError(KompyctError):
    """A recovery function or an action answered with something that is no recovery handler."""


class RecoveryTimeoutError(KompyctError, TimeoutError):
    """A recovery function or its handler did not end before its deadline and was abandoned."""


class SnapshotError(KompyctError):
    """A snapshot cannot be encoded, or not be decoded."""


class RecoveryImportError(SnapshotError):
    """A stored recovery function cannot be imported any more; its snapshot stays in the store."""


class ProcessLostError(KompyctError):
    """The process that ran the component was lost; the exception of a fault `PROCESS_LOST`."""


class StoreError(KompyctError, OSError):
    """A store cannot be read or written; what it held before is whole.

    Attributes:
        errno: the operating system's number, or None.
        path: the file or folder.
        phase: what was being done: "open", "read", "decode", "encode", "write", "sync", "rename",
            "sync-folder", "lock" or "trust".
    """

    def __init__(
        self, text: str, *, path: str | None = None, phase: str = "", errno: int | None = None
    ) -> None:
        super().__init__(text)
        self.errno = errno
        self.path = path
        self.phase = phase

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:
        return _store_error, (type(self), self.args[0], self.path, self.phase, self.errno)


def _store_error(
    kind: type[StoreError], text: str, path: str | None, phase: str, errno: int | None
) -> StoreError:
    return kind(text, path=path, phase=phase, errno=errno)


class DurabilityError(StoreError):
    """It was written, but the operating system could not confirm that it is on the disk."""


class StoreLockedError(StoreError, TimeoutError):
    """Another living writer has the store; the message says who, and since when."""


class CorruptStoreError(StoreError, ValueError):
    """What was read is not what was written: cut off, changed, too big, or of another kind."""


class VersionError(StoreError):
    """Written by a newer kompyct, or by cloudpickle under another Python; it was left alone."""


class TrustError(StoreError):
    """Decoding the file could run code, and it is not known to be the user's own."""


class ProcessExitError(KompyctError):
    """A child process ended without having been asked to; what a fault `PROCESS_EXIT` has."""


class ProcessStartError(KompyctError):
    """A child process cannot be started, or ended before it was ready."""


class RemoteError(KompyctError):
    """Stands for an exception of another process that cannot be pickled (S-15).

    Its text names the type and holds the original text and traceback; the causes are chained.

    Attributes:
        types: the qualified names of the original's type and its bases, most derived first.
        text: the original's text, cut at 8 KB.
        traceback: the original's traceback as text, with the exceptions it came from.
    """

    def __init__(self, types: tuple[str, ...], text: str, traceback: str) -> None:
        super().__init__(types, text, traceback)
        self.types = types
        self.text = text
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.types[0]}: {self.text}"


class ForkUnsafeError(KompyctError):
    """The process has threads, whose locks a copy would keep for ever; nothing was copied."""


class ForkMissingError(KompyctError, NotImplementedError):
    """This platform has no fork."""


class GuardError(KompyctError):
    """A guarded program cannot be started, or not be recovered."""


class AutosaveError(GuardError, RuntimeError):
    """An autosave is in the way, belongs to a living program, or cannot be recovered."""


class SystemShutdownError(KompyctError):
    """The system is shutting down or has ended; it takes no new work.

    Also what a fault `SHUTDOWN` has as its exception.
    """


class ShutdownTimeoutError(KompyctError, TimeoutError):
    """The components did not end in time; those left were abandoned."""


class IncarnationEndedError(BaseException):
    """A thread called a component whose incarnation has ended; nothing was changed (S-06).

    It derives from `BaseException` so that a broad `except Exception` in the late thread does
    not swallow it and carry on.
    """


class LimitInterrupt(BaseException):
    """Raised in a thread from outside: what it runs has exceeded a limit.

    It derives from `BaseException`, so that a broad `except Exception` in what is interrupted
    does not swallow it. Source: Resiliparse, whose `ResiliparseGuardException` it replaces.

    Attributes:
        source: what has interrupted: the guard, or the path of the component whose limit it was.
        limit: which was exceeded, in seconds or bytes.
    """

    firing = None  # of a class that is made for one interrupt, see `kompyct.interrupts`

    def __init__(self, *args: object) -> None:
        self.source: object = None
        self.limit: float | None = None
        self.stack_summary: object = ""
        firing = getattr(type(self), "firing", None)
        if firing is not None:
            args = args or (firing.text,)
            self.source, self.limit = firing.source, firing.limit
            self.stack_summary = firing.stack
            firing.raised()
        super().__init__(*args)

    @property
    def is_inside(self) -> bool:
        """Whether the block that it interrupts has not been left yet."""
        firing = getattr(type(self), "firing", None)
        return firing is not None and firing.is_inside()

    @property
    def stack(self) -> str:
        """Where the thread was, as text, the innermost line last; empty if nobody looked."""
        return str(self.stack_summary)

    @property
    def location(self) -> str:
        """The innermost line, as `file:line in function`."""
        return getattr(self.stack_summary, "location", "unknown place")

    def __reduce__(self) -> tuple[object, ...]:
        firing = getattr(type(self), "firing", None)
        kind = type(self) if firing is None else firing.base
        source = self.source if isinstance(self.source, str) else None
        return (
            kind,
            self.args,
            {"limit": self.limit, "source": source, "stack_summary": self.stack},
        )


class ExecutionTimeout(LimitInterrupt):  # the ancestor's name
    """A guarded block, or a handler, took longer than its time limit."""


class MemoryLimitExceeded(LimitInterrupt):  # the ancestor's name
    """The process uses more memory than a guarded block, or a component, may."""


def is_callers(error: BaseException) -> bool:
    """Whether it is not only that of the handler it was raised in, but of who runs that, too.

    So is Ctrl+C (S-35), and an interrupt of a guard that is around the call.
    """
    if isinstance(error, LimitInterrupt):
        return error.is_inside
    return isinstance(error, KeyboardInterrupt)


def as_raised(error: BaseException, path: str) -> BaseException:
    """What somebody who waited for the component at `path` gets for its `error` (S-16).

    An `Exception` is raised again as itself; anything else is wrapped, so that another
    component's `SystemExit` does not end this thread. The end of a process is wrapped as well.
    """
    if isinstance(error, Exception) and not isinstance(error, ProcessExitError):
        return error
    wrapped = ComponentFaultError(
        f"component {path!r} faulted with {type(error).__qualname__}; see the cause"
    )
    wrapped.__cause__ = error
    return wrapped
