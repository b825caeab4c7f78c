"""Which GPUs a compiled CUDA library serves, told from the architectures it was built for."""

from __future__ import annotations

import re

_ENTRY = re.compile(r"(\d+)([af]?)(-real|-virtual)?")


def serves(architectures: str, capability: tuple[int, int]) -> bool:
    """Whether code built for `architectures` runs on a GPU of this compute capability.

    Architectures are those of CMake, separated by spaces: "75-real 90". Machine code ("-real") runs
    on GPUs of the same generation from its own step on; PTX ("-virtual") on every later one; a
    number alone means both. Code for a suffix "a" runs on that very step only, for "f" within the
    generation.
    """
    return any(_entry_serves(entry, capability) for entry in architectures.split())


def _entry_serves(entry: str, capability: tuple[int, int]) -> bool:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        return False
    number, suffix, kind = int(match[1]), match[2], match[3]
    built = (number // 10, number % 10)
    if suffix == "a":
        return capability == built
    same_generation = capability[0] == built[0] and capability[1] >= built[1]
    if suffix == "f" or kind == "-real":
        return same_generation
    return same_generation or capability >= built
