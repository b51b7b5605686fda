"""Making the gateway a service of a system, one step at a time, and undoing exactly that.

    installer = Installer(Target(root=Path("/")), report=print)
    installer.install(command="/opt/instrument-gateway/bin/gateway")
    installer.uninstall(purge=False)

Both may be repeated: a step that finds its work done says so and changes nothing. What was made on this system and not
found there (the user, the config's folder) stands in the unit file, so that `uninstall` leaves what it did not make.
That file belongs to root: nothing that the service itself can write decides what root removes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Final

from gateway.errors import ConfigError, GatewayError
from gateway.systemd.accounts import Accounts, read_accounts
from gateway.systemd.tools import Runner, run_tool
from gateway.systemd.udev import RULES_FILE, rules
from gateway.systemd.unit import (
    CONFIG,
    CREATED_CONFIG,
    CREATED_USER,
    GROUPS,
    MADE_BY,
    NAME,
    SERVICE,
    Unit,
)

UNIT_FILE: Final = f"/etc/systemd/system/{SERVICE}"
WANTED_BY: Final = f"/etc/systemd/system/multi-user.target.wants/{SERVICE}"
CONFIG_FOLDER: Final = str(PurePosixPath(CONFIG).parent)
STATE_FOLDER: Final = f"/var/lib/{NAME}"
NOLOGIN: Final = "/usr/sbin/nologin"
MAX_FILE: Final = 1024 * 1024
SERVICE_S: Final = 120.0
"""Starting may take 90 s, and stopping 45."""


class Outcome(StrEnum):
    """What became of a step."""

    DONE = "done"
    UNCHANGED = "unchanged"
    """It was so already."""
    WOULD = "would"
    """It would be done without `dry_run`."""
    KEPT = "kept"
    """Left there on purpose."""
    SKIPPED = "skipped"
    """It can't be done here, and need not be; `Step.note` says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done, or not."""

    what: str
    """Such as `write /etc/systemd/system/instrument-gateway.service`."""
    outcome: Outcome
    note: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """The system to install into."""

    root: Path = field(default_factory=lambda: Path("/"))
    dry_run: bool = False
    run: Runner = run_tool

    @property
    def is_live(self) -> bool:
        """Whether it is the system that runs, and not an image's folder."""
        return self.root == Path("/")

    def path(self, absolute: str) -> Path:
        """Where `absolute` lies. Raises ConfigError where a link (an image's /etc -> /etc) leads out of the root."""
        path = self.root / absolute.lstrip("/")
        if not self.is_live and not path.parent.resolve().is_relative_to(self.root.resolve()):
            raise ConfigError(f"{path.parent} is a link that leads out of {self.root}; installing there is refused")
        return path

    def read(self, absolute: str) -> str | None:
        """The text of a file; None where there is none. Raises ConfigError if it can't be read."""
        try:
            with self.path(absolute).open("rb") as file:
                return file.read(MAX_FILE).decode("utf-8", "replace")
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise ConfigError(f"cannot read {absolute}: {problem.strerror or problem}") from None


class Installer:
    """Installs and uninstalls. Each step is reported when it is done."""

    def __init__(self, target: Target, report: Callable[[Step], object]) -> None:
        self._target = target
        self._report = report

    # -- what there is and what there should be

    def installed(self) -> str | None:
        """The unit file that is there; None if there is none. Raises ConfigError if it is somebody else's."""
        return self._ours(UNIT_FILE)

    def texts(self, command: str) -> dict[str, str]:
        """Path -> text of the files that `install` writes now."""
        accounts = read_accounts(self._target.root)
        return self._texts(command, accounts, self._created(accounts))

    # -- doing it

    def install(self, *, command: str, start: bool = True) -> None:
        """Make it a service that runs `command`. Raises ConfigError, GatewayError; what was done by then stays.

        It is enabled; with `start` also started, if there is a config. A service that runs is not restarted.
        """
        self._must_be_root("install")
        accounts = read_accounts(self._target.root)
        problem = command_problem(self._target, command)
        if problem:
            raise ConfigError(problem)
        created = self._created(accounts)
        texts = self._texts(command, accounts, created)
        self._make_user(accounts)
        self._make_folder(CONFIG_FOLDER)
        changed = [path for path, text in texts.items() if self._write(path, text)]
        self._enable()
        if changed:
            self._reload()
        self._start(start, UNIT_FILE in changed)

    def uninstall(self, *, purge: bool = False) -> None:
        """Undo `install`. Config, certificates and audit log stay, unless `purge`. Raises as `install` does."""
        self._must_be_root("uninstall")
        unit = self.installed()
        ours = unit or ""
        if unit is not None:
            self._tool("stop the service, which makes every device safe", "systemctl", "stop", SERVICE)
        removed = [path for path in (WANTED_BY, UNIT_FILE, RULES_FILE) if self._remove(path)]
        if removed:
            self._reload()
        if CREATED_USER in ours.splitlines():
            self._remove_user()
        for folder in (CONFIG_FOLDER, STATE_FOLDER):
            made_and_empty = folder == CONFIG_FOLDER and CREATED_CONFIG in ours.splitlines() and self._is_empty(folder)
            if purge or made_and_empty:
                self._remove_tree(folder)
            else:
                self._keep(folder)

    # -- facts

    def _ours(self, path: str) -> str | None:
        text = self._target.read(path)
        if text is not None and not text.startswith(MADE_BY):
            raise ConfigError(f"{path} was not made by `gateway service install`; move it away first")
        return text

    def _created(self, accounts: Accounts) -> tuple[bool, bool]:
        """Whether the user and the config's folder are, or will be, of our making."""
        before = (self.installed() or "").splitlines()
        user = CREATED_USER in before or NAME not in accounts.users
        config = CREATED_CONFIG in before or not self._target.path(CONFIG_FOLDER).exists()
        return user, config

    def _texts(self, command: str, accounts: Accounts, created: tuple[bool, bool]) -> dict[str, str]:
        groups = tuple(group for group in GROUPS if group in accounts.groups)
        serial_group = next((group for group in ("dialout", "uucp") if group in groups), NAME)
        unit = Unit(command, groups, created_user=created[0], created_config=created[1])
        return {UNIT_FILE: unit.text, RULES_FILE: rules(serial_group=serial_group)}

    def _must_be_root(self, verb: str) -> None:
        if self._target.is_live and not self._target.dry_run and os.geteuid() != 0:
            raise ConfigError(f"this takes root: run `sudo gateway service {verb}`, or see what it does with --dry-run")

    # -- steps

    def _make_user(self, accounts: Accounts) -> None:
        what = f"create the system user {NAME}"
        if NAME in accounts.users:
            self._say(what, Outcome.UNCHANGED)
            return
        group = ("--gid", NAME) if NAME in accounts.groups else ("--user-group",)
        self._account_tool(
            what,
            "useradd",
            "--system",
            *group,
            "--home-dir",
            STATE_FOLDER,
            "--no-create-home",
            "--shell",
            NOLOGIN,
            "--comment",
            "Instrument gateway",
            NAME,
        )

    def _remove_user(self) -> None:
        if NAME in read_accounts(self._target.root).users:
            self._account_tool(f"remove the system user {NAME}", "userdel", NAME)
        if not self._target.dry_run and NAME in read_accounts(self._target.root).groups:
            self._account_tool(f"remove the group {NAME}", "groupdel", NAME)

    def _account_tool(self, what: str, tool: str, *words: str) -> None:
        prefix = () if self._target.is_live else ("--prefix", str(self._target.root.resolve()))
        if self._would(what):
            return
        output = self._target.run(tool, *prefix, *words)
        if output is None:
            raise GatewayError(f"cannot {what}: no {tool} here; do it by hand and repeat this command")
        if output.code != 0:
            raise GatewayError(f"cannot {what}: {tool}: {output.complaint}")
        self._say(what, Outcome.DONE)

    def _make_folder(self, absolute: str) -> None:
        what, path = f"make {absolute}", self._target.path(absolute)
        if path.is_dir():
            self._say(what, Outcome.UNCHANGED)
        elif not self._would(what):
            with _told(f"cannot make {absolute}"):
                path.mkdir(mode=0o755, parents=True)
            self._say(what, Outcome.DONE)

    def _write(self, absolute: str, text: str) -> bool:
        """Whether the file was, or would be, changed."""
        what, path = f"write {absolute}", self._target.path(absolute)
        if self._ours(absolute) == text:
            self._say(what, Outcome.UNCHANGED)
            return False
        if not self._would(what):
            draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            with _told(f"cannot write {absolute}"):
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    with open(draft, "x", encoding="utf-8") as file:
                        file.write(text)
                        os.fchmod(file.fileno(), 0o644)
                        file.flush()
                        os.fsync(file.fileno())
                    os.replace(draft, path)  # whole or not at all
                finally:
                    draft.unlink(missing_ok=True)
            self._say(what, Outcome.DONE)
        return True

    def _enable(self) -> None:
        what, path = f"link {WANTED_BY}, to start at boot", self._target.path(WANTED_BY)
        if path.is_symlink() and os.readlink(path) == UNIT_FILE:
            self._say(what, Outcome.UNCHANGED)
        elif not self._would(what):
            with _told(f"cannot write {WANTED_BY}"):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                path.symlink_to(UNIT_FILE)
            self._say(what, Outcome.DONE)

    def _reload(self) -> None:
        if not self._target.is_live:
            self._not_live("tell systemd and udev")
            return
        self._tool("tell systemd", "systemctl", "daemon-reload")
        self._tool("tell udev", "udevadm", "control", "--reload")
        for subsystem in ("usb", "usbmisc", "tty"):
            self._tool(
                f"apply the rules to {subsystem} devices that are plugged in",
                *("udevadm", "trigger", "--action=change", f"--subsystem-match={subsystem}"),
            )

    def _start(self, wanted: bool, changed: bool) -> None:
        what = "start the service"
        if not wanted:
            self._say(what, Outcome.SKIPPED, f"start it with: sudo systemctl start {NAME}")
        elif self._target.read(CONFIG) is None:
            self._say(what, Outcome.SKIPPED, f"write {CONFIG} first, then: sudo systemctl start {NAME}")
        elif not self._target.is_live:
            self._not_live(what)
        elif self._is_running():
            note = f"it runs; to use the new files: sudo systemctl restart {NAME}" if changed else ""
            self._say(what, Outcome.UNCHANGED, note)
        else:
            self._tool(what, "systemctl", "start", SERVICE, must=True)

    def _is_running(self) -> bool:
        output = self._target.run("systemctl", "is-active", SERVICE)
        return output is not None and output.code == 0

    def _tool(self, what: str, *words: str, must: bool = False) -> None:
        """Run a tool on the running system; where there is none, that is said and no error, unless it `must` work."""
        if not self._target.is_live:
            self._not_live(what)
        elif not self._would(what):
            output = self._target.run(*words, timeout_s=SERVICE_S)
            if output is not None and output.code == 0:
                self._say(what, Outcome.DONE)
                return
            why = f"no {words[0]} here" if output is None else f"{words[0]}: {output.complaint}"
            if must:
                raise GatewayError(
                    f"cannot {what}: {why}; `journalctl -u {NAME} -e` and `sudo gateway doctor` say more"
                )
            self._say(what, Outcome.SKIPPED, why)

    def _remove(self, absolute: str) -> bool:
        what, path = f"remove {absolute}", self._target.path(absolute)
        if not path.is_symlink() and not path.exists():
            self._say(what, Outcome.UNCHANGED, "it is not there")
            return False
        if not path.is_symlink() and not (self._target.read(absolute) or "").startswith(MADE_BY):
            self._say(what, Outcome.KEPT, "it was not made by `gateway service install`")
            return False
        if not self._would(what):
            with _told(f"cannot remove {absolute}"):
                path.unlink()
            self._say(what, Outcome.DONE)
        return True

    def _remove_tree(self, absolute: str) -> None:
        what, path = f"remove {absolute}", self._target.path(absolute)
        if not path.exists():
            self._say(what, Outcome.UNCHANGED, "it is not there")
        elif not self._would(what):
            with _told(f"cannot remove {absolute}"):
                shutil.rmtree(path)
            self._say(what, Outcome.DONE)

    def _keep(self, absolute: str) -> None:
        path = self._target.path(absolute)
        if not path.exists():
            return
        note = "--purge removes it"
        if not self._target.dry_run and os.geteuid() == 0:
            # Its user may be gone: the next user who gets that number must not own an audit log.
            with _told(f"cannot give {absolute} to root"):
                _give_to_root(path)
            note += "; it belongs to root now"
        self._say(f"remove {absolute}", Outcome.KEPT, note)

    def _is_empty(self, absolute: str) -> bool:
        path = self._target.path(absolute)
        return path.is_dir() and not any(path.iterdir())

    def _would(self, what: str) -> bool:
        if self._target.dry_run:
            self._say(what, Outcome.WOULD)
        return self._target.dry_run

    def _not_live(self, what: str) -> None:
        self._say(what, Outcome.SKIPPED, f"{self._target.root} is not the system that runs")

    def _say(self, what: str, outcome: Outcome, note: str = "") -> None:
        self._report(Step(what, outcome, note))


def command_problem(target: Target, command: str) -> str:
    """Why the service's user could not run `command`; empty if it can. Names what to do instead."""
    if not PurePosixPath(command).is_absolute() or any(ord(char) < 32 for char in command):
        return f"{command!r} is no absolute path of the command gateway"
    advice = (
        "install the gateway where everybody can read it: sudo python3 -m venv /opt/instrument-gateway && "
        "sudo /opt/instrument-gateway/bin/pip install ."
    )
    path = target.root / command.lstrip("/")
    if not path.exists():
        return f"there is no {command}; {advice}"
    closed = next((folder for folder in _folders(target, command) if not _open_to_all(folder)), None)
    if closed is not None:
        return f"the user {NAME} can't reach {command}, because {closed} is closed to others; {advice}"
    if not os.stat(path).st_mode & 0o001:
        return f"the user {NAME} can't run {command}; {advice}"
    return ""


def _folders(target: Target, command: str) -> Iterable[Path]:
    """The folders on the way to `command`, as written and as links lead."""
    path = target.root / command.lstrip("/")
    for way in (path, path.resolve()):
        yield from (
            folder for folder in reversed(way.parents) if folder != target.root and folder.is_relative_to(target.root)
        )


def _open_to_all(folder: Path) -> bool:
    return bool(folder.stat().st_mode & 0o001)


def _give_to_root(path: Path) -> None:
    os.chown(path, 0, 0, follow_symlinks=False)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.chown(os.path.join(folder, name), 0, 0, follow_symlinks=False)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise GatewayError(f"{what}: {problem.strerror or problem}") from problem
