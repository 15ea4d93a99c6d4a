"""Was a value that the dictionary handed out changed, and the change never stored?

`data["key"].append(1)` changes a copy. That it is lost must be said: a value that could be
changed is remembered when it is handed out, and looked at again when its key is used next, when
many others were handed out since, and at the end.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

from kompyct import codecs

REMEMBERED: Final = 8
"""How many values are remembered at most: they are not collected before they are looked at."""

UNCHANGEABLE: Final = frozenset({int, float, complex, bool, str, bytes, type(None)})


class LostChangeWarning(UserWarning):
    """A value was changed in place after it was read, and the change is not guarded."""


class HandedOut:
    """The values that were handed out last, by key. The dictionary's lock protects it.

    Attributes:
        values: those that are remembered.
    """

    def __init__(self, store: Mapping[Any, bytes]) -> None:
        self._store = store
        self.values: dict[Any, Any] = {}

    def remember(self, key: Any, value: Any) -> None:
        """`value` is about to be handed out; the one before was looked at."""
        self.values[key] = value
        if len(self.values) > REMEMBERED:
            self.check(next(iter(self.values)))

    def forget(self, key: Any) -> None:
        """The key has a new value, or none: nothing is lost that is not meant to be."""
        self.values.pop(key, None)

    def check(self, key: Any) -> None:
        """Warn if what was handed out under `key` has been changed; it is not looked at again."""
        if key not in self.values:
            return
        value = self.values.pop(key)
        data = self._store.get(key)
        if data is not None and _was_changed(value, data):
            warnings.warn(
                f"the value of {key!r} was changed after it was read, and the change is not "
                f"guarded: assign the value again, or use `with data.edit({key!r}) as value:`",
                LostChangeWarning,
                stacklevel=3,
            )

    def check_all(self) -> None:
        """`check` for every key."""
        for key in list(self.values):
            self.check(key)


def _was_changed(value: Any, data: bytes) -> bool:
    try:
        now = codecs.encode(value)
    except Exception:  # it could be encoded when it was stored
        return True
    # The same value may have two encodings: with text that was one object, and now is two.
    return now != data and now != codecs.encode(codecs.decode(data))
