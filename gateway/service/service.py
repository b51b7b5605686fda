"""Service: what one end of a connection shows the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from gateway.service.exposure import Exposable


class Service(Exposable):
    """Base of services: derive, and expose methods by `exposed_` in front of their names or by `@exposed`.

    Override `on_connect` and `on_disconnect` for set-up and clean-up, and `_rpyc_getattr`, `_rpyc_setattr`,
    `_rpyc_delattr` to decide about attributes oneself (not consulted under the strict policy: there the table decides).
    The service's name is its class name without `Service`, in capitals, unless `ALIASES` says otherwise.
    """

    ALIASES: ClassVar[Iterable[str]] = ()

    def on_connect(self, conn: Any) -> None:
        """Called when `conn` is established."""

    def on_disconnect(self, conn: Any) -> None:
        """Called once when `conn` is gone; must not use it any more."""

    def _rpyc_delattr(self, name: str) -> None:
        raise AttributeError(f"cannot delete {name!r} of a service")

    def _rpyc_setattr(self, name: str, value: Any) -> None:
        raise AttributeError(f"cannot set {name!r} of a service")

    @classmethod
    def get_service_aliases(cls) -> tuple[str, ...]:
        """All names of this service, in capitals."""
        if cls.ALIASES:
            return tuple(str(alias).upper() for alias in cls.ALIASES)
        return (cls.__name__.upper().removesuffix("SERVICE"),)

    @classmethod
    def get_service_name(cls) -> str:
        """The first of the names."""
        return cls.get_service_aliases()[0]

    exposed_get_service_aliases = get_service_aliases
    exposed_get_service_name = get_service_name


class VoidService(Service):
    """Shows nothing: what a client that only calls has on its own side."""


def instance_of(service: Service | type[Service]) -> Service:
    """A service as given, or a new one of the class given."""
    return service() if isinstance(service, type) else service
