"""The proxies of one connection: their classes, and what was encoded for them."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.errors import ProtocolError
from gateway.limits import Limits
from gateway.protocol.constants import Handler
from gateway.protocol.netref import FIXED_ATTRIBUTE, IdPack, Methods
from gateway.sync.netref import BaseNetref, UnknownNetref, boxes_of, builtin_netref, make_class, remote_method

if TYPE_CHECKING:
    from gateway.sync.connection import Connection

_ClassKey = tuple[str, int, bool]
"""`(name, class id, is a class itself)`."""


class Proxies:
    """Makes proxies at once, and asks for their classes later, when somebody is about to use them."""

    def __init__(self, conn: Connection, limits: Limits) -> None:
        self._conn = conn
        self._limits = limits
        self._classes: dict[_ClassKey, type[BaseNetref]] = {}

    def make(self, id_pack: IdPack) -> BaseNetref:
        """A proxy of the peer's object, of a class without methods where the real one isn't known yet."""
        name, class_id, instance_id = id_pack
        is_class = instance_id == 0
        cls = builtin_netref(name, is_class=is_class) or self._classes.get((name, class_id, is_class), UnknownNetref)
        return cls(self._conn, id_pack)

    def learn(self, proxies: Sequence[Any]) -> None:
        """Ask the owner for the classes of new proxies (INSPECT), each once. Sends and waits: hold nothing."""
        for proxy in proxies:
            if not type(proxy).____known__:
                name, class_id, instance_id = proxy.____id_pack__
                key = (name, class_id, instance_id == 0)
                cls = self._classes.get(key) or self._inspect(key, proxy)
                # `object.__class__` is the descriptor that the proxies' own `__class__` hides.
                object.__dict__["__class__"].__set__(proxy, cls)

    def know(self, proxy: BaseNetref, table: Any) -> None:
        """Give a new proxy its class where the owner has said by itself what INSPECT would answer.

        Raises ProtocolError for what is no such answer.
        """
        name, class_id, instance_id = proxy.____id_pack__
        object.__dict__["__class__"].__set__(proxy, self._make((name, class_id, instance_id == 0), table))

    def _inspect(self, key: _ClassKey, proxy: BaseNetref) -> type[BaseNetref]:
        return self._make(key, self._conn.sync_request(Handler.INSPECT, proxy.____id_pack__))

    def _make(self, key: _ClassKey, table: Any) -> type[BaseNetref]:
        methods, fixed = _checked(table, self._limits)
        if len(self._classes) >= self._limits.remote_classes:
            self._classes.clear()
        cls = self._classes[key] = make_class(
            key[0], methods, fixed=fixed, exact=self._conn.peer_lists_exactly, local=_builtin(key[0])
        )
        return cls

    def stand_in(self, value: Any) -> Any:
        """What is sent for `value`: for `proxy.method`, which is local until it is called, the peer's own method."""
        remote = remote_method(value)
        if remote is None or remote[0].____conn__ is not self._conn:
            return value
        proxy, name = remote
        boxes = boxes_of(proxy)
        if ("netref", name) not in boxes:
            # Kept with the proxy: were it to die here, its release would leave before the message that names it.
            boxes["netref", name] = self._conn.get_attribute(proxy, name)
        return boxes["netref", name]


def _checked(table: Any, limits: Limits) -> tuple[Methods, Methods]:
    """An INSPECT answer, bounded: the methods `(name, docstring or None)`, and the fixed attributes likewise.

    A fixed attribute's entry ends with a third item, FIXED_ATTRIBUTE.
    """
    if type(table) is not tuple or len(table) > limits.methods:
        raise ProtocolError(f"the peer's method table is no tuple of at most {limits.methods} entries")
    methods, fixed = [], []
    for entry in table:
        if (
            type(entry) is not tuple
            or len(entry) not in (2, 3)
            or type(entry[0]) is not str
            or len(entry[0]) > limits.name
        ):
            raise ProtocolError(f"the peer's method table has no entry like {entry!r:.80}")
        documented = entry[0], entry[1] if type(entry[1]) is str else None
        if len(entry) == 2:
            methods.append(documented)
        elif entry[2] == FIXED_ATTRIBUTE:
            fixed.append(documented)
    return tuple(methods), tuple(fixed)


def _builtin(name: str) -> type | None:
    """The local class of a name such as `builtins.ValueError`. Names of other modules are the peer's word only."""
    module, _, cls_name = name.rpartition(".")
    cls = vars(builtins).get(cls_name) if module == "builtins" else None
    return cls if isinstance(cls, type) else None
