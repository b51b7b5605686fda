"""Writing proposals into the config: a file `devices.d/NAME.toml` for each."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from gateway import config as configuration
from gateway.adopt.proposals import Proposal
from gateway.config.edit import write_file
from gateway.config.files import config_files, devices_folder
from gateway.errors import ConfigError

NEW_CONFIG = b"# The devices are in devices.d beside this file.\n[gateway]\n"


def read_current(path: str | os.PathLike[str]) -> configuration.Config:
    """The config at `path`, which need not exist or have a device. Raises ConfigError for a mistake in it."""
    if not os.path.exists(path):
        return configuration.from_tables({}, origin=os.fspath(path), may_be_empty=True)
    found = configuration.examine(path, may_be_empty=True)
    if found.problems:
        raise found.problems[0]
    return found.config


def taken_names(path: str | os.PathLike[str], config: configuration.Config) -> set[str]:
    """Names that a new device of the config at `path` can't have: those of devices, hosts, and files of the folder."""
    names = {section.name for section in config.devices} | {section.name for section in config.hosts}
    return names | {Path(name).stem for name in config_files(path)[1:]}


def write_proposal(path: str | os.PathLike[str], proposal: Proposal) -> str:
    """Add the proposal to the config at `path`, which is made if there is none; the file that was written.

    The config is read again afterwards: if it is not right with the new file, that is taken away again. Raises
    ConfigError then, and where nothing can be written.
    """
    main = Path(path)
    try:
        devices_folder(path).mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ConfigError(f"{devices_folder(path)}: cannot make it: {problem.strerror or problem}") from None
    if not main.exists():
        write_file(main, NEW_CONFIG)
    file = devices_folder(path) / f"{proposal.name}.toml"
    if os.path.lexists(file):
        raise ConfigError(f"{file}: is there already; move it away, or add the device by hand")
    write_file(file, proposal.text.encode("utf-8"))
    wrong = [problem for problem in configuration.examine(path).problems if problem.facts.get("file") == str(file)]
    if wrong:
        with suppress(OSError):
            file.unlink()
        raise wrong[0]
    return str(file)
