"""Boxes: how values and objects travel, and the counts that keep lent objects alive.

    box = (1, value)             a brine value
        | (2, (box, ...))        a tuple of which some item is no value
        | (3, id_pack)           an object that the receiver owns
        | (4, id_pack)           an object that the sender owns
        | (5, (kind, data))      a container or array by value; only between peers that agreed on it (see `copies`)
        | (3, number)            an object that the receiver owns, by its number alone; between peers that agreed on it

`id_pack` is `(name, class id, instance id)`. Our ids are counters of one connection: never an address, never another
connection's, so a proxy that is passed on through a second connection can't alias another object there. The number of
an object is its instance id, that of a class its class id: both are counted by the same counter.

Owner's side: every send of an object adds one to its count, DEL(n) takes n away, at zero it is let go. Receiver's side:
it is counted how often a proxy was received, and all of that is given back when the proxy dies. Both follow the order
of the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from types import ModuleType
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

from gateway.errors import BadRequest, LimitExceeded, NotFound
from gateway.limits import Limits
from gateway.protocol import copies
from gateway.protocol.brine import SMALL, TYPES, NotBrine, dump, dump_into
from gateway.protocol.constants import LABEL_COPY, LABEL_LOCAL_REF, LABEL_REMOTE_REF, LABEL_TUPLE, LABEL_VALUE
from gateway.protocol.framing import Message, joined
from gateway.protocol.messages import encode_int
from gateway.protocol.netref import IdPack, Netref, Reference

_TUPLE2 = b"\x11"
_VALUE = _TUPLE2 + dump(LABEL_VALUE)
_TUPLE = _TUPLE2 + dump(LABEL_TUPLE)
_LOCAL_REF = _TUPLE2 + dump(LABEL_LOCAL_REF)
_REMOTE_REF = _TUPLE2 + dump(LABEL_REMOTE_REF)
_COPY = _TUPLE2 + dump(LABEL_COPY)
_TUPLE3 = b"\x12"
_HEAP_TYPE: Final = 1 << 9
"""Flag of classes that a program made (Py_TPFLAGS_HEAPTYPE)."""
_NAME_MAX: Final = 512
"""Characters of the name of a class or module, where it is kept with a proxy. Few have more than some dozen."""


class Loan:
    """One object lent to the peer: `count` is how often it was sent and not given back."""

    __slots__ = ("count", "id_pack", "obj", "owner")

    def __init__(self, obj: Any, id_pack: IdPack, owner: object) -> None:
        self.obj = obj
        self.id_pack = id_pack
        self.owner = owner
        """Whatever the lender said the object belongs to, such as the device whose method returned it."""
        self.count = 0


class Loans:
    """The objects one connection has lent. `lock` guards lending against release (the caller knows its threads)."""

    def __init__(self, limits: Limits, lock: AbstractContextManager[Any]) -> None:
        self._limits = limits
        self._lock = lock
        self._by_number: dict[int, Loan] = {}
        self._by_identity: dict[int, Loan] = {}
        self._ids = count(1)
        self._class_ids: WeakKeyDictionary[type, tuple[str, int]] = WeakKeyDictionary()
        self._lasting_class_ids: dict[type, tuple[str, int]] = {}
        """The same for classes that live as long as the interpreter, such as that of bound methods."""
        self._foreign_class_ids: dict[tuple[int, str, int], int] = {}

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[Any]:
        return iter([loan.obj for loan in list(self._by_number.values())])

    def lend(self, obj: Any, owner: object = None) -> IdPack:
        """Count one more send of `obj`. Raises LimitExceeded where the peer holds too many objects."""
        with self._lock:
            loan = self._by_identity.get(id(obj))
            if loan is None:
                if len(self._by_number) >= self._limits.references:
                    raise LimitExceeded("references", actual=len(self._by_number) + 1, allowed=self._limits.references)
                loan = Loan(obj, self._id_pack(obj), owner)
                self._by_identity[id(obj)] = self._by_number[number_of(loan.id_pack)] = loan
            loan.count += 1
            return loan.id_pack

    def find(self, reference: Reference) -> Loan:
        """The loan of that id. Raises NotFound for what was never lent or has been given back."""
        loan = self.get(reference)
        if loan is None:
            raise NotFound(f"no object {reference!r:.200} is lent on this connection; it was released or never sent")
        return loan

    def get(self, reference: Reference) -> Loan | None:
        """The same, None where there is none."""
        if isinstance(reference, int):
            return self._by_number.get(reference)
        loan = self._by_number.get(number_of(reference))
        return loan if loan is not None and loan.id_pack == reference else None

    def release(self, reference: Reference, times: int) -> None:
        """Take back `times` sends; an unknown id is nothing (stock peers send such DELs)."""
        with self._lock:
            loan = self.get(reference)
            if loan is not None:
                loan.count -= times
                if loan.count <= 0:
                    del self._by_number[number_of(loan.id_pack)], self._by_identity[id(loan.obj)]

    def clear(self) -> None:
        with self._lock:
            self._by_number.clear()
            self._by_identity.clear()

    def _id_pack(self, obj: Any) -> IdPack:
        if isinstance(obj, Netref):
            name, class_id, instance_id = obj.____id_pack__
            key = (obj.____conn__.token, name, class_id)
            if len(self._foreign_class_ids) >= self._limits.remote_classes:
                self._foreign_class_ids.clear()  # a peer of another connection can make up as many as it likes
            own = self._foreign_class_ids.get(key) or self._foreign_class_ids.setdefault(key, next(self._ids))
            return name, own, next(self._ids) if instance_id else 0
        if isinstance(obj, type):
            return *self._class(obj), 0
        name, class_id = self._class(type(obj))
        return obj.__name__ if isinstance(obj, ModuleType) else name, class_id, next(self._ids)

    def _class(self, cls: type) -> tuple[str, int]:
        """`(name, class id)`, the same objects for every loan of the class."""
        found = self._lasting_class_ids.get(cls) or self._class_ids.get(cls)
        if found is None:
            found = f"{cls.__module__}.{cls.__name__}", next(self._ids)
            if cls.__flags__ & _HEAP_TYPE:
                self._class_ids[cls] = found
            else:
                self._lasting_class_ids[cls] = found
        return found


class ProxyRef(ref[Netref]):
    """A proxy of ours, alive or not, and how often the peer has sent it.

    The count stands here and not in the proxy: the callback of a weak reference runs when nobody can get hold of the
    proxy any more, whereas a `__del__` can be overtaken by a thread that receives the same object again.
    """

    __slots__ = ("id_pack", "times")

    id_pack: IdPack
    times: int


class Borrowed:
    """The objects one connection has been lent, as proxies.

    Only the thread that reads receives; any thread may drop a proxy. `released(id_pack, times)` is called when one has
    died, wherever that happens: it must not do more than take note.
    """

    def __init__(self, limits: Limits, released: Callable[[IdPack, int], None]) -> None:
        self._limits = limits
        self._released = released
        self._refs: dict[IdPack, ProxyRef] = {}
        self._dead: list[ProxyRef] = []

    def __len__(self) -> int:
        return sum(found() is not None for found in list(self._refs.values()))

    def receive(self, id_pack: IdPack, proxy_for: Callable[[IdPack], Netref]) -> Netref:
        """The proxy of that object, received once more. Raises LimitExceeded for one too many."""
        found = self._refs.get(id_pack)
        proxy = found() if found is not None else None
        if found is not None and proxy is not None:
            found.times += 1
            return proxy
        self._bury()
        if len(self._refs) >= self._limits.references:
            raise LimitExceeded("references", actual=len(self._refs) + 1, allowed=self._limits.references)
        if len(id_pack[0]) > _NAME_MAX:
            raise LimitExceeded("name of a class", actual=len(id_pack[0]), allowed=_NAME_MAX)
        proxy = proxy_for(id_pack)
        made = self._refs[id_pack] = ProxyRef(proxy, self._died)
        made.id_pack, made.times = id_pack, 1
        return proxy

    def clear(self) -> None:
        """Forget all; what dies from now on is released no more."""
        self._refs.clear()
        self._dead.clear()

    def _died(self, dead: Any) -> None:
        # A finalizer's place: any thread, any lock held. So the table is left to the thread that reads.
        self._dead.append(dead)
        self._released(dead.id_pack, dead.times)

    def _bury(self) -> None:
        while self._dead:
            dead = self._dead.pop()
            if self._refs.get(dead.id_pack) is dead:
                del self._refs[dead.id_pack]


class Boxing:
    """Both directions for one connection: objects to box bytes, decoded boxes to objects.

    `proxy_for(id_pack)` makes a proxy of an object of the peer, `released` takes note of one that died (see Borrowed),
    `stand_in(value)` gives what is sent for a value that the front wants to replace; `copies` is switched on once both
    ends agreed.
    """

    def __init__(
        self,
        connection: object,
        proxy_for: Callable[[IdPack], Netref],
        released: Callable[[IdPack, int], None],
        limits: Limits,
        lock: AbstractContextManager[Any] | None = None,
        stand_in: Callable[[Any], Any] | None = None,
    ) -> None:
        self._stand_in = stand_in
        self._connection = connection
        self._proxy_for = proxy_for
        self._limits = limits
        self.loans = Loans(limits, lock or nullcontext())
        self.proxies = Borrowed(limits, released)
        self.copies = False
        self.packs = False
        """Whether many numbers go as an array's bytes; only with `copies`."""
        self.short = False
        """Whether both ends know references by their number alone."""
        self.imports = True
        """Whether an array of the peer may make this side import numpy."""

    def box(
        self, value: Any, owner: object = None, *, head: bytes = b"", tail: Message = b"", packs: bool = False
    ) -> Message:
        """The brine bytes of the box around `value`, between `head` and `tail`; what is lent for it belongs to `owner`.

        `packs`: a tuple of many numbers is one value and may be packed; the arguments of a call are none.
        They must fit into a frame. Raises brine.Unencodable for a value that can't
        be encoded, LimitExceeded for one that is too large and for one reference too many; then nothing is lent.
        """
        kind = type(value)
        if kind in SMALL:
            return self._fitting(head + _VALUE + dump(value, self._limits) + tail)
        if kind in TYPES:
            pieces = [head, _VALUE]
            if packs and self.packs and kind is tuple and (packed := copies.pack(value, self._limits)):
                pieces[1] = _COPY + _TUPLE2 + dump(copies.NUMBERS) + _VALUE
                value = ("tuple", *packed)
            try:
                dump_into(value, pieces, self._limits)
                return self._fitting(joined([*pieces, tail]))  # once: it may be megabytes
            except NotBrine:
                pass
        lent: list[IdPack] = []
        pieces = [head]
        try:
            self._box_object(value, owner, 0, lent, pieces)
            return self._fitting(joined([*pieces, tail]))
        except BaseException:
            for id_pack in lent:
                self.loans.release(id_pack, 1)
            raise

    def _fitting(self, data: Message) -> Message:
        if len(data) > self._limits.frame:
            raise LimitExceeded("frame", actual=len(data), allowed=self._limits.frame)
        return data

    def _box(self, value: Any, owner: object, depth: int, lent: list[IdPack], out: list[bytes]) -> None:
        place = len(out)
        out.append(_VALUE)
        try:
            dump_into(value, out, self._limits)
        except NotBrine:
            del out[place:]
            self._box_object(value, owner, depth, lent, out)

    def _box_object(self, value: Any, owner: object, depth: int, lent: list[IdPack], out: list[bytes]) -> None:
        """Append the box of what is no brine, in pieces: they may be megabytes, and are joined once."""
        if depth >= self._limits.nesting:
            raise LimitExceeded("nesting", actual=depth + 1, allowed=self._limits.nesting)
        if type(value) is tuple:
            out.append(_TUPLE + tuple_head(len(value), self._limits))
            for item in value:
                self._box(item, owner, depth + 1, lent, out)
            return
        if self._stand_in is not None:
            value = self._stand_in(value)
        if isinstance(value, Netref) and value.____conn__ is self._connection:
            out.append(_LOCAL_REF + dump(self.reference(value.____id_pack__)))
            return
        if self.copies:
            taken = copies.take(value, self._limits, packs=self.packs)
            if taken is not None:
                kind, data = taken
                out.append(_COPY + _TUPLE2 + dump(kind))
                self._box(data, owner, depth + 1, lent, out)
                return
        id_pack = self.loans.lend(value, owner)
        lent.append(id_pack)
        name, class_id, instance_id = id_pack
        out.append(_REMOTE_REF + _TUPLE3 + dump(name) + encode_int(class_id) + encode_int(instance_id))

    def unbox(self, box: Any, new: list[Netref]) -> Any:
        """The value or object of a decoded box. Proxies whose class isn't known yet are added to `new`.

        Raises BadRequest for what is no box, NotFound for a reference to an object that is not lent.
        """
        label, value = split(box)
        if label == LABEL_VALUE:
            return value
        if label == LABEL_LOCAL_REF:
            return self.lent(value).obj
        if label == LABEL_REMOTE_REF:
            return self._receive(id_pack_of(value), new)
        if label == LABEL_TUPLE and type(value) is tuple:
            return tuple([self.unbox(item, new) for item in value])
        if label == LABEL_COPY and self.copies and type(value) is tuple and len(value) == 2:
            return copies.rebuild(value[0], self.unbox(value[1], new), self._limits, imports=self.imports)
        raise BadRequest(f"no such box: label {label!r:.50} around {type(value).__name__}")

    def reference(self, id_pack: IdPack) -> Reference:
        """How the peer's object of that id is named to it."""
        return number_of(id_pack) if self.short else id_pack

    def reference_of(self, value: Any) -> Reference:
        """A decoded reference to an object of ours, its form checked."""
        return value if type(value) is int and self.short else id_pack_of(value)

    def lent(self, value: Any) -> Loan:
        """The loan that a decoded reference names. Raises BadRequest, NotFound."""
        return self.loans.find(self.reference_of(value))

    def _receive(self, id_pack: IdPack, new: list[Netref]) -> Netref:
        proxy = self.proxies.receive(id_pack, self._proxy_for)
        if not type(proxy).____known__:
            new.append(proxy)
        return proxy


def tuple_of(pieces: list[bytes], limits: Limits) -> bytes:
    """The brine bytes of a tuple whose items are encoded already. Raises LimitExceeded over `limits.items`."""
    return tuple_head(len(pieces), limits) + b"".join(pieces)


def tuple_head(size: int, limits: Limits) -> bytes:
    """How the brine bytes of a tuple of `size` items begin. Raises as `tuple_of`."""
    if size <= 4:
        return bytes((0x0F + size,)) if size else b"\x02"
    if size < 256:
        return bytes((0x14, size))
    if size <= limits.items:
        return b"\x15" + size.to_bytes(4, "big")
    raise LimitExceeded("items", actual=size, allowed=limits.items)


def split(box: Any) -> tuple[Any, Any]:
    """`(label, value)` of a decoded box. Raises BadRequest for anything else."""
    if type(box) is tuple and len(box) == 2:
        return box
    raise BadRequest(f"a box is (label, value), not {box!r:.80}")


def number_of(id_pack: IdPack) -> int:
    """What distinguishes a lent object from all others of its connection."""
    return id_pack[2] or id_pack[1]


def id_pack_of(value: Any) -> IdPack:
    """A decoded id_pack, its shape checked: `(str, int, int)`."""
    if type(value) is tuple and len(value) == 3:
        name, class_id, instance_id = value
        if type(name) is str and type(class_id) is int and type(instance_id) is int:
            return value
    raise BadRequest(f"an id_pack is (name, class id, instance id), not {value!r:.80}")
