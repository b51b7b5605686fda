"""Installing into a root of its own: what is done, said, kept and undone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.errors import ConfigError, GatewayError
from gateway.systemd.install import (
    CONFIG_FOLDER,
    STATE_FOLDER,
    UNIT_FILE,
    WANTED_BY,
    Installer,
    Outcome,
    Step,
    Target,
    command_problem,
)
from gateway.systemd.tools import Output
from gateway.systemd.udev import RULES_FILE
from gateway.systemd.unit import CONFIG, NAME, setting

COMMAND = "/opt/instrument-gateway/bin/gateway"
PASSWD = "root:x:0:0:root:/root:/bin/sh\n"
GROUP = "root:x:0:\ndialout:x:20:pi\ni2c:x:994:\n"

pytestmark = pytest.mark.skipif(
    shutil.which("useradd", path=f"{os.environ['PATH']}:/usr/sbin") is None, reason="no useradd"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system with users, groups and an installed gateway, and nothing else."""
    made = tmp_path / "root"
    (made / "etc").mkdir(parents=True)
    (made / "etc/passwd").write_text(PASSWD, encoding="utf-8")
    (made / "etc/group").write_text(GROUP, encoding="utf-8")
    command = made / COMMAND.lstrip("/")
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n", encoding="utf-8")
    command.chmod(0o755)
    return made


class Record:
    """An installer with the steps it reported."""

    def __init__(self, root: Path, *, dry_run: bool = False) -> None:
        self.steps: list[Step] = []
        self.installer = Installer(Target(root, dry_run), self.steps.append)

    def outcomes(self) -> dict[str, Outcome]:
        return {step.what: step.outcome for step in self.steps}

    def install(self) -> dict[str, Outcome]:
        self.installer.install(command=COMMAND)
        return self.outcomes()

    def uninstall(self, *, purge: bool = False) -> dict[str, Outcome]:
        self.installer.uninstall(purge=purge)
        return self.outcomes()


def files(root: Path) -> dict[str, str]:
    """All files and links under `root`, without the back-ups of the account tools."""
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_text(encoding="utf-8")
        for path in sorted(root.rglob("*"))
        if (path.is_symlink() or path.is_file()) and not path.name.endswith("-")
    }


def test_installing_makes_the_user_the_unit_the_rules_and_the_link(root: Path) -> None:
    outcomes = Record(root).install()
    assert outcomes[f"create the system user {NAME}"] is Outcome.DONE
    assert f"{NAME}:" in (root / "etc/passwd").read_text(encoding="utf-8")
    unit = (root / UNIT_FILE.lstrip("/")).read_text(encoding="utf-8")
    assert setting(unit, "ExecStart") == f"{COMMAND} serve {CONFIG}"
    assert setting(unit, "SupplementaryGroups") == "dialout i2c"
    assert os.readlink(root / WANTED_BY.lstrip("/")) == UNIT_FILE
    assert 'GROUP="dialout"' in (root / RULES_FILE.lstrip("/")).read_text(encoding="utf-8")
    assert (root / CONFIG_FOLDER.lstrip("/")).is_dir()
    assert oct((root / UNIT_FILE.lstrip("/")).stat().st_mode & 0o777) == "0o644"


def test_installing_again_changes_nothing(root: Path) -> None:
    Record(root).install()
    before = files(root)
    outcomes = Record(root).install()
    assert set(outcomes.values()) == {Outcome.UNCHANGED, Outcome.SKIPPED}
    assert files(root) == before


def test_a_dry_run_says_what_it_would_do_and_does_nothing(root: Path) -> None:
    before = files(root)
    assert Outcome.DONE not in Record(root, dry_run=True).install().values()
    assert files(root) == before
    done = Record(root).install()
    would = Record(root, dry_run=True).uninstall()
    assert would[f"remove {UNIT_FILE}"] is Outcome.WOULD
    assert (root / UNIT_FILE.lstrip("/")).exists()
    assert done


def test_uninstalling_leaves_the_system_as_it_was(root: Path) -> None:
    before = files(root)
    Record(root).install()
    Record(root).uninstall()
    assert files(root) == before
    assert not (root / CONFIG_FOLDER.lstrip("/")).exists()


def test_uninstalling_leaves_a_user_and_a_folder_that_were_there_before(root: Path) -> None:
    with (root / "etc/passwd").open("a", encoding="utf-8") as file:
        file.write(f"{NAME}:x:950:950::/:/usr/sbin/nologin\n")
    with (root / "etc/group").open("a", encoding="utf-8") as file:
        file.write(f"{NAME}:x:950:\n")
    (root / CONFIG_FOLDER.lstrip("/")).mkdir()
    before = files(root)
    Record(root).install()
    Record(root).install()
    Record(root).uninstall()
    assert files(root) == before
    assert (root / CONFIG_FOLDER.lstrip("/")).is_dir()


def test_what_was_made_is_remembered_over_a_second_installation(root: Path) -> None:
    before = files(root)
    Record(root).install()
    Record(root).install()
    Record(root).uninstall()
    assert files(root) == before


def test_config_and_audit_log_stay_until_they_are_purged(root: Path) -> None:
    Record(root).install()
    config, audit = root / CONFIG.lstrip("/"), root / STATE_FOLDER.lstrip("/") / "audit.jsonl"
    config.write_text("[gateway]\n", encoding="utf-8")
    audit.parent.mkdir(parents=True)
    audit.write_text("{}\n", encoding="utf-8")
    outcomes = Record(root).uninstall()
    assert outcomes[f"remove {CONFIG_FOLDER}"] is Outcome.KEPT
    assert outcomes[f"remove {STATE_FOLDER}"] is Outcome.KEPT
    assert config.exists()
    assert audit.exists()
    Record(root).uninstall(purge=True)
    assert not config.parent.exists()
    assert not audit.parent.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files to another user takes root")
def test_what_stays_belongs_to_root_because_its_users_number_may_be_given_again(root: Path, tmp_path: Path) -> None:
    Record(root).install()
    audit = root / STATE_FOLDER.lstrip("/") / "log" / "audit.jsonl"
    audit.parent.mkdir(parents=True)
    audit.touch()
    outside = tmp_path / "outside"
    outside.touch()
    (audit.parent / "link").symlink_to(outside)
    for path in (audit.parent.parent, audit.parent, audit, outside):
        os.chown(path, 950, 950)
    Record(root).uninstall()
    assert (audit.parent.parent.stat().st_uid, audit.parent.stat().st_uid, audit.stat().st_uid) == (0, 0, 0)
    assert outside.stat().st_uid == 950


def test_a_unit_of_somebody_else_is_left_alone(root: Path) -> None:
    unit = root / UNIT_FILE.lstrip("/")
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    before = files(root)
    for attempt in (Record(root).install, Record(root).uninstall):
        with pytest.raises(ConfigError, match=r"was not made by `gateway service install`; move it away first"):
            attempt()
    assert files(root) == before


def test_a_link_that_leads_out_of_the_root_is_not_followed(root: Path, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (root / "etc/systemd").symlink_to(host)
    with pytest.raises(ConfigError, match="leads out of"):
        Record(root).install()
    assert list(host.iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda command: command.unlink(), "there is no /opt"),
        (lambda command: command.parent.chmod(0o700), "closed to others"),
        (lambda command: command.chmod(0o750), "can't run"),
    ],
)
def test_a_command_that_the_services_user_cannot_run_is_refused_with_the_fix(
    root: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(root / COMMAND.lstrip("/"))
    before = files(root)
    with pytest.raises(ConfigError, match=reason) as refused:
        Record(root).install()
    assert "\n" not in str(refused.value)
    assert "/opt/instrument-gateway/bin/pip" in str(refused.value) or reason == "closed to others"
    assert files(root) == before


def test_a_relative_command_is_refused() -> None:
    assert "no absolute path" in command_problem(Target(), "gateway")


# -- the running system, with the tools' answers given ----------------------------------------------------------------


class LiveTarget(Target):
    """A root that is treated as the running system."""

    @property
    def is_live(self) -> bool:
        return True


def live(root: Path, *, running: bool, fails: str = "") -> tuple[Installer, list[Step], list[tuple[str, ...]]]:
    (root / "etc/passwd").write_text(PASSWD + f"{NAME}:x:950:950::/:/bin/false\n", encoding="utf-8")
    steps: list[Step] = []
    called: list[tuple[str, ...]] = []

    def run(*words: str, timeout_s: float = 0) -> Output | None:
        called.append(words)
        if words[1] == "is-active":
            return Output(0 if running else 3, "")
        return Output(1, "", "Job failed.\n") if fails and fails in words else Output(0, "")

    return Installer(LiveTarget(root, run=run), steps.append), steps, called


@pytest.mark.skipif(os.geteuid() != 0, reason="installing takes root")
def test_a_running_service_is_never_restarted_by_an_installation(root: Path) -> None:
    installer, steps, called = live(root, running=True)
    (root / CONFIG_FOLDER.lstrip("/")).mkdir()
    (root / CONFIG.lstrip("/")).touch()
    installer.install(command=COMMAND)
    assert ("systemctl", "daemon-reload") in called
    assert not [words for words in called if {"start", "restart", "stop"} & set(words)]
    assert "systemctl restart" in steps[-1].note


@pytest.mark.skipif(os.geteuid() != 0, reason="installing takes root")
def test_the_service_is_started_once_there_is_a_config(root: Path) -> None:
    installer, steps, called = live(root, running=False)
    installer.install(command=COMMAND)
    assert (steps[-1].outcome, "write /etc/instrument-gateway/gateway.toml first" in steps[-1].note) == (
        Outcome.SKIPPED,
        True,
    )
    (root / CONFIG.lstrip("/")).touch()
    installer.install(command=COMMAND)
    assert called[-1] == ("systemctl", "start", "instrument-gateway.service")


@pytest.mark.skipif(os.geteuid() != 0, reason="installing takes root")
def test_a_service_that_does_not_start_is_an_error_that_says_where_to_look(root: Path) -> None:
    installer, _, _ = live(root, running=False, fails="start")
    (root / CONFIG_FOLDER.lstrip("/")).mkdir()
    (root / CONFIG.lstrip("/")).touch()
    with pytest.raises(GatewayError, match=r"Job failed.*journalctl -u instrument-gateway"):
        installer.install(command=COMMAND)


@pytest.mark.skipif(os.geteuid() != 0, reason="uninstalling takes root")
def test_the_service_is_stopped_before_its_files_go(root: Path) -> None:
    installer, _, _ = live(root, running=False)
    installer.install(command=COMMAND)
    installer, steps, called = live(root, running=True)
    installer.uninstall()
    assert called[0] == ("systemctl", "stop", "instrument-gateway.service")
    assert steps[0].what.startswith("stop the service")
