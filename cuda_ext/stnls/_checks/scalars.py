"""Checks of single values: numbers, truth values, names."""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable, Sequence
from numbers import Integral, Real
from typing import SupportsIndex

from torch import Tensor

from stnls._errors import StnlsTypeError, StnlsValueError


def shown(value: object) -> str:
    """`value` in a message: of tensors and the like no more than their kind and shape."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 100 else f"a {type(value).__name__}"


def any_int(name: str, value: object) -> int:
    """`value` as an int of 32 bits; integers of NumPy count as well."""
    array = isinstance(value, Tensor) or not isinstance(value, Hashable)
    if array or isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise StnlsTypeError(f"{name} must be an int, not {shown(value)}")
    number = operator.index(value)
    if abs(number) >= 2**31:  # sums and products of a few of them must fit 64 bits
        raise StnlsValueError(f"{name} must lie between -2**31 and 2**31, not {number}")
    return number


def positive_int(name: str, value: object, minimum: int = 1) -> int:
    """`value` as an int of at least `minimum`."""
    number = any_int(name, value)
    if number < minimum:
        raise StnlsValueError(f"{name} must be at least {minimum}, not {number}")
    return number


def any_number(name: str, value: object) -> float:
    """`value` as an int or a float, also an infinite one or NaN; numbers of NumPy count as well."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise StnlsTypeError(f"{name} must be a number, not {shown(value)}")
    return int(value) if isinstance(value, Integral) else float(value)


def finite_number(name: str, value: object) -> float:
    """`value` as a finite float."""
    number = any_number(name, value)
    if not float("-inf") < number < float("inf"):
        raise StnlsValueError(f"{name} must be finite, not {number}")
    return float(number)


def positive_number(name: str, value: object, maximum: float = float("inf")) -> float:
    """`value` as a finite float above zero, at most `maximum`."""
    number = any_number(name, value)
    if not 0 < number < float("inf"):
        raise StnlsValueError(f"{name} must be above 0 and finite, not {number}")
    if number > maximum:
        raise StnlsValueError(f"{name} must be at most {maximum:g}, not {number}")
    return float(number)


def not_negative_number(name: str, value: object, *, maximum: float = math.inf) -> float:
    """`value` as a finite float of at least zero and at most `maximum`."""
    number = finite_number(name, value)
    if number < 0:
        raise StnlsValueError(f"{name} must be at least 0, not {number:g}")
    if number > maximum:
        raise StnlsValueError(f"{name} must be at most {maximum:g}, not {number:g}")
    return number


def between(name: str, value: object, low: float, high: float) -> float:
    """`value` as a float above `low` and below `high`."""
    number = finite_number(name, value)
    if not low < number < high:
        raise StnlsValueError(f"{name} must lie between {low:g} and {high:g}, not {number:g}")
    return number


def fraction(name: str, value: object) -> float:
    """`value` as a float from 0 to 1."""
    number = finite_number(name, value)
    if not 0 <= number <= 1:
        raise StnlsValueError(f"{name} must be from 0 to 1, not {value}")
    return number


def boolean(name: str, value: object) -> bool:
    """`value` is True or False; a string such as "False" would count as true."""
    if not isinstance(value, bool):
        raise StnlsTypeError(f"{name} must be True or False, not {shown(value)}")
    return value


def one_of(name: str, value: object, choices: Sequence[object]) -> None:
    """`value` is one of `choices`."""
    # Tensors and arrays are compared element by element.
    if isinstance(value, Tensor) or not isinstance(value, Hashable) or value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise StnlsValueError(f"{name} must be one of {known}, not {shown(value)}")


def only_default(name: str, value: object, default: object) -> None:
    """`value` is the default of a parameter that is there for the order of arguments only."""
    if type(value) is not type(default) or value != default:
        raise StnlsValueError(
            f"{name}={value!r} is not supported: it takes only its default, {default!r}"
        )
