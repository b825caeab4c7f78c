"""One base for all errors of the library; each is also the builtin that Python users expect."""

from __future__ import annotations


class StnlsError(Exception):
    """Base of every error that this library raises on purpose."""


class StnlsValueError(StnlsError, ValueError):
    """A value, a shape or a combination of options that has no meaning."""


class StnlsTypeError(StnlsError, TypeError):
    """An argument of a type, dtype or device that the operator does not take."""


class StnlsAttributeError(StnlsError, AttributeError):
    """A parameter of a module that cannot be set any more."""


class StnlsMemoryError(StnlsError, MemoryError):
    """Memory that a kernel wants on the CPU and does not get."""


class StnlsRuntimeError(StnlsError, RuntimeError):
    """Kernels that cannot be used, or failed; derivatives that are not supported."""


class StnlsLibraryError(StnlsRuntimeError):
    """Kernels that are not built, do not load, are of another version, or of an instruction set
    that is not there."""
