"""What numbers do the examples take on their command lines?"""

import argparse
from collections.abc import Callable
from typing import TypeVar

N = TypeVar("N", int, float)

BACKENDS = ("thread", "pool", "process")  # those on which time goes by itself
DAY = 86_400.0  # seconds


def number(least: N, most: N) -> Callable[[str], N]:
    """For `type=` of argparse: a number of that kind, from `least` to `most`."""
    kind = type(least)

    def checked(text: str) -> N:
        try:
            if least <= (value := kind(text)) <= most:
                return value
        except ValueError:
            pass
        whole = "whole " if kind is int else ""
        raise argparse.ArgumentTypeError(
            f"{text!r} will not do; give a {whole}number from {least} to {most}"
        )

    return checked
