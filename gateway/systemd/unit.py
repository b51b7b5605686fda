"""The text of the systemd unit. Decision record 0020 gives the reasons for the sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

NAME: Final = "instrument-gateway"
"""Of the service, its user, and its directories under /etc, /var/lib and /run."""
SERVICE: Final = f"{NAME}.service"
CONFIG: Final = f"/etc/{NAME}/gateway.toml"
GROUPS: Final = ("dialout", "uucp", "plugdev", "gpio", "i2c", "spi")
"""Groups that own what instruments hang on, on Debian, Raspberry Pi OS and others."""
MADE_BY: Final = "# Made by `gateway service install`; `gateway service uninstall` removes it."
CREATED_USER: Final = "CreatedUser=yes"
CREATED_CONFIG: Final = "CreatedConfiguration=yes"
WATCHDOG_S: Final = 10
STOP_S: Final = 45
"""Making a device safe may take a driver 15 s, and a call that runs has a second to end."""

_HOMES: Final = ("/home", "/root", "/run/user")

_TEXT: Final = """\
{made_by}
# Change it with `systemctl edit {name}`, which leaves this file alone.

[Unit]
Description=Instrument gateway
After=network.target nss-lookup.target time-sync.target systemd-udevd.service
# It goes on trying: a gateway that gave up would leave the bench without anybody who can make it safe.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command} serve {config}
ExecReload=/bin/kill -HUP $MAINPID
WatchdogSec={watchdog_s}
TimeoutStartSec=90
# Stopping brings every device to its safe state first.
TimeoutStopSec={stop_s}
# What it has started, such as ssh to an instrument host, is needed for that: only the gateway is told to end.
KillMode=mixed
# A process that hangs can't end in order.
TimeoutAbortSec=3
Restart=always
RestartSec=500ms
# The last one to be killed when memory is short, for the same reason.
OOMScoreAdjust=-500

User={name}
Group={name}
{groups}
# Its id, certificates and audit log are in /var/lib/{name}.
StateDirectory={name}
StateDirectoryMode=0750
ConfigurationDirectory={name}
RuntimeDirectory={name}
RuntimeDirectoryMode=0755
WorkingDirectory=/var/lib/{name}
Environment=HOME=/var/lib/{name} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
UMask=0027

# Half of the machine's memory. Raspberry Pi OS counts memory only with cgroup_enable=memory in cmdline.txt.
MemoryMax=50%
TasksMax=512
LimitNOFILE=8192

# No right beyond those of its groups, and no way to gain one.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictSUIDSGID=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictNamespaces=yes
KeyringMode=private
RemoveIPC=yes

# It reads the system, writes to its own directories, and sees nobody's files.
ProtectSystem=strict
{protect_home}
PrivateTmp=yes
PrivateMounts=yes
ReadWritePaths=/var/lib/{name}
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible

# The instruments are devices, so PrivateDevices=no. In its place: only what instruments hang on can be opened. By
# number, because names are looked up once, when the service starts: a kind of adapter that comes later has none yet.
PrivateDevices=no
DevicePolicy=closed
# ttyS, ttyAMA, ttyACM, ttyUSB
DeviceAllow=char-4 rw
DeviceAllow=char-204 rw
DeviceAllow=char-166 rw
DeviceAllow=char-188 rw
# usbtmc and hiddev, USB devices, I2C, SPI
DeviceAllow=char-180 rw
DeviceAllow=char-189 rw
DeviceAllow=char-89 rw
DeviceAllow=char-153 rw
# GPIO and hidraw have no fixed number, and are there from the start.
DeviceAllow=char-gpiochip rw
DeviceAllow=char-hidraw rw

# AF_NETLINK: the kernel tells by it which devices come and go, and which network interfaces there are.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# Not MemoryDenyWriteExecute=: ctypes, by which Python calls libusb, makes small functions at run time.

[Install]
WantedBy=multi-user.target

# What was made on this system, for `gateway service uninstall`.
[X-InstrumentGateway]
{created}
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """What differs from system to system."""

    command: str
    """The absolute path of the command `gateway`."""
    groups: tuple[str, ...] = ()
    """Supplementary groups; systemd refuses to start a service with one that doesn't exist."""
    created_user: bool = False
    """Whether installing made the user."""
    created_config: bool = False
    """Whether installing made the folder of the config."""

    @property
    def text(self) -> str:
        """The unit file."""
        at_home = PurePosixPath(self.command).is_absolute() and self.command.startswith(tuple(f"{h}/" for h in _HOMES))
        created = [
            *([CREATED_USER] if self.created_user else []),
            *([CREATED_CONFIG] if self.created_config else []),
        ]
        groups = (
            f"SupplementaryGroups={' '.join(self.groups)}" if self.groups else "# No group of this system owns ports."
        )
        return _TEXT.format(
            made_by=MADE_BY,
            name=NAME,
            command=escaped(self.command),
            config=CONFIG,
            watchdog_s=WATCHDOG_S,
            stop_s=STOP_S,
            groups=groups,
            protect_home="# The gateway itself is installed in a home.\nProtectHome=read-only"
            if at_home
            else "ProtectHome=yes",
            created="\n".join(created) or "# nothing but files",
        )


def escaped(path: str) -> str:
    """`path` as the first word of an ExecStart= line: quoted where it has blanks, `%` and `$` doubled."""
    safe = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{safe}"' if any(char in path for char in " \t'\"\\;") else safe


def setting(text: str, name: str) -> str:
    """The last value that a unit file gives `name`; empty if none. For reading files that `Unit` wrote."""
    found = [line.partition("=")[2].strip() for line in text.splitlines() if line.startswith(f"{name}=")]
    return found[-1] if found else ""
