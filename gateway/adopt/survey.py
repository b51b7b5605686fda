"""Looking at what is there, and asking who it is where that was allowed."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from gateway.adopt.proposals import Seen
from gateway.discovery import FoundInstrument
from gateway.hardware import Entry, Hardware, find_hardware
from gateway.hardware.matching import BAUDRATES, fits_identity, fits_port, paths_of
from gateway.hardware.probe import LIMIT_S, Answer, ask, ask_socket, reason_not_to_ask

MAX_ASKED_AT_ONCE: Final = 16
NOT_ALLOWED: Final = "not asked"


def plugged_in(
    entries: Sequence[Entry], only: Collection[str] = (), *, root: str | os.PathLike[str] = "/"
) -> list[Seen]:
    """What is plugged in, with the names the config has for it; nothing is asked. `only`: these ports, if any.

    A `note` tells of each thing why it must not be asked; empty: it may.
    """
    hardware = find_hardware(root, [*paths_of(entries), *only], without_port=True)
    wanted = {os.path.realpath(path) for path in only}
    return [_seen(each, entries, root) for each in hardware if not only or os.path.realpath(each.port) in wanted]


def _seen(hardware: Hardware, entries: Sequence[Entry], root: str | os.PathLike[str]) -> Seen:
    device = " and ".join(
        entry.name for entry in entries if entry.match.idn is None and fits_port(entry.match, hardware)
    )
    note = "in the config already" if device else reason_not_to_ask(hardware, root)
    what = " ".join(filter(None, (hardware.manufacturer, hardware.product)))
    if hardware.kind == "usb" and what:
        note = f"{what}: {note}"
    return Seen(where=str(hardware), transport=hardware.kind, hardware=hardware, device=device, note=note)


def recognised(seen: Sequence[Seen], entries: Sequence[Entry]) -> list[Seen]:
    """`seen`, with the config's names for what its `idn` patterns fit."""
    return [_recognised(each, entries) for each in seen]


def _recognised(seen: Seen, entries: Sequence[Entry]) -> Seen:
    if seen.device or seen.hardware is None or not seen.identity:
        return seen
    device = " and ".join(
        entry.name
        for entry in entries
        if entry.match.idn is not None
        and fits_port(entry.match, seen.hardware)
        and fits_identity(entry.match.idn, seen.identity)
    )
    return replace(seen, device=device, note="in the config already") if device else seen


def on_network(instruments: Sequence[FoundInstrument], known: Collection[str]) -> list[Seen]:
    """What was found on the network. `known`: the `port` options of the config, which may have some of it already."""
    return list(_on_network(instruments, known))


def _on_network(instruments: Sequence[FoundInstrument], known: Collection[str]) -> Iterator[Seen]:
    for each in instruments:
        host = f"[{each.address}]" if ":" in each.address else each.address
        if each.port is None:
            note = f"{each.name}: it has a web page, and does not say where it speaks SCPI"
            yield Seen(where=host, transport="web", identity=each.identity, note=note)
            continue
        url = f"socket://{host}:{each.port}"
        yield Seen(
            where=f"{host}:{each.port}",
            transport="socket",
            url=url,
            identity=each.identity,
            device=url if url in known else "",
            note="in the config already" if url in known else "",
        )


def may_be_asked(seen: Seen) -> bool:
    """Whether `*IDN?` would tell something about it and may be sent."""
    return not seen.identity and not seen.device and not seen.note and seen.transport in ("serial", "usbtmc", "socket")


def ask_all(
    seen: Sequence[Seen],
    allowed: Callable[[Seen], bool],
    *,
    baudrates: Sequence[int] = BAUDRATES,
    limit_s: float = LIMIT_S,
    root: str | os.PathLike[str] = "/",
) -> list[Seen]:
    """`seen` with the identities of those that may be asked, are `allowed`, and answer; side by side, so that it takes
    no longer than one of them.
    """
    chosen = [may_be_asked(each) and allowed(each) for each in seen]

    def one(each: Seen, wanted: bool) -> Seen:
        if not wanted:
            return replace(each, note=NOT_ALLOWED) if may_be_asked(each) else each
        if each.hardware is None:
            host, _, port = each.where.rpartition(":")
            answer = ask_socket(host.strip("[]"), int(port))
        else:
            answer = ask(each.hardware, baudrates, limit_s=limit_s, root=root)
        if isinstance(answer, Answer):
            return replace(each, identity=answer.identity, baudrate=answer.baudrate)
        return replace(each, note=answer)

    with ThreadPoolExecutor(MAX_ASKED_AT_ONCE, thread_name_prefix="gateway-asking") as pool:
        return list(pool.map(one, seen, chosen))
