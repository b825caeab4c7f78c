"""Parameters of a module as its attributes."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, overload

from stnls._errors import StnlsAttributeError

Value = TypeVar("Value")


class ReadOnly(Generic[Value]):
    """An attribute of a module that reads the field of its `options` of the same name, or `field`;
    with `own` the private attribute of the module that has this name after an underscore.

    Parameters are checked when the module is made: to set one raises StnlsAttributeError.
    """

    def __init__(self, field: str | None = None, *, own: bool = False) -> None:
        self._field = field
        self._own = own

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._field = self._field or name

    @overload
    def __get__(self, module: None, owner: type) -> ReadOnly[Value]: ...
    @overload
    def __get__(self, module: object, owner: type) -> Value: ...
    def __get__(self, module: Any, owner: type) -> Any:
        if module is None:
            return self
        if self._own:
            return getattr(module, f"_{self._field}")
        return getattr(module.options, str(self._field))

    def __set__(self, module: object, value: object) -> None:
        raise StnlsAttributeError(
            f"{self._name} of {type(module).__name__} is set when the module is made: make another "
            f"one with {self._name}={value!r}"
        )
