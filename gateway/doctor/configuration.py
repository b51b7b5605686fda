"""The config: there, readable by who runs the gateway, not writable by everybody, and valid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from gateway.doctor.findings import Finding, ok, problem, warning
from gateway.doctor.subject import Subject
from gateway.doctor.system import System


def config(system: System, subject: Subject) -> Iterator[Finding]:
    """Whether the gateway can start with it."""
    path = subject.config
    if not system.exists(path):
        folder = PurePosixPath(path).parent
        yield problem(
            f"{path}: no such file; the gateway has nothing to serve",
            f"sudo mkdir -p {folder} && sudo cp examples/bench.toml {path}    # in the checkout; then change it",
            "gateway ports    # the names of the ports to write into it",
        )
        return
    sound = True
    if not system.may_use(subject.user, path, write=False):
        sound = False
        yield problem(f"{path}: the user {subject.user.name} can't read it", f"sudo chmod 644 {path}")
    if system.path(path).stat().st_mode & 0o002:
        sound = False
        yield warning(f"{path}: everybody on this computer can change it", f"sudo chmod 644 {path}")
    if subject.trouble:
        yield problem(subject.trouble, f"# mend that line, then: gateway doctor --config {path}")
    elif sound:
        count = len(subject.places)
        yield ok(f"{path}: valid; it names {count} port{'' if count == 1 else 's'}")
