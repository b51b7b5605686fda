"""The pytest plugin (entry point `pytest11`): wires, real gateway processes and devices as fixtures.

    pytest --hil-serial=/dev/ttyUSB0,/dev/ttyUSB1     the suites over two ports that a cable joins
    pytest --hil-usb=1209:0001                        `usb_pair` over this machine's two USB ports, which a cable joins
    pytest --hil-bench=bench.toml                     `device` is each device of this bench in turn

    wire             two joined ports: `wire.address(End.A)`, `wire.channel_url(End.B)`; faults unless it is real
    serial_pair      the two ends of `wire`, open: `(a, b)` of pyserial
    usb_pair         factory: `with usb_pair() as (host, device)`, the ends of usb://; in software without --hil-usb
    gateway_process  factory: `gateway_process(config)` runs `gateway serve` in its own process
    instrument_host  factory: `instrument_host(url, config)` runs `gateway host`
    served_bench     the bench of --hil-bench, or the demo's, served: a `GatewayProcess`
    device           a device of it, as a client sees it

    @pytest.mark.wire("socket", baud=115200)          which kind of wire, and its settings; "pty" without the mark
    @pytest.mark.skip_quirk("NO_MODEM_LINES")         not on a wire that has this quirk
    @pytest.mark.device("dmm1")                       not with a device of another name

Several kinds in turn: `@pytest.mark.parametrize("wire", ["pty", "rfc2217"], indirect=True)`. Whatever costs time to
import is imported by the fixture that needs it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import serial

    from gateway.channels import Channel
    from hil.processes import GatewayProcess
    from hil.wires import Wire

READ_S: Final = 10.0
BAUD: Final = 115200
ALONE: Final = '[gateway]\nlisten = "tcp://127.0.0.1:0"\nadvertise = false\n\n'
"""Put before a config that has no table [gateway]: for this computer only, on a free port."""
DEMO: Final = ("demo", "--listen", "tcp://127.0.0.1:0")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hil", "hardware in the loop")
    group.addoption("--hil-serial", metavar="PORT,PORT", help="run over these two ports, which a cable joins")
    group.addoption("--hil-usb", metavar="VID:PID", help="run over this machine's USB ports, one of them a device")
    group.addoption("--hil-bench", metavar="FILE", help="run with the devices of this gateway config")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "wire(kind, **settings): the kind of wire, and what it is made with")
    config.addinivalue_line("markers", "skip_quirk(*names): skip on a wire with one of these quirks (hil.Quirk)")
    config.addinivalue_line("markers", "device(*names): run with these devices of the bench only")
    ports = config.getoption("--hil-serial")
    if ports is not None and len(_split(ports)) != 2:
        raise pytest.UsageError(f"--hil-serial takes two ports with a comma between them, not {ports!r}")
    bench = config.getoption("--hil-bench")
    if bench is None:
        config.pluginmanager.register(_DemoDevice(), "hil-device")
    else:
        config.pluginmanager.register(_bench_devices(Path(bench)), "hil-device")


# ---------------------------------------------------------------------------------------------------------------- wires


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """Two joined ports: of --hil-serial where that is given."""
    from hil.wires import KINDS, RealWire

    mark = request.node.get_closest_marker("wire")
    kind, settings = (mark.args[0] if mark and mark.args else "pty"), (mark.kwargs if mark else {})
    kind = getattr(request, "param", kind)
    ports = request.config.getoption("--hil-serial")
    if ports is not None and kind != "pty":
        pytest.skip(f"--hil-serial: the wire is real, and this test is for the kind {kind!r}")
    if ports is None and kind not in KINDS:
        raise pytest.UsageError(f"there is no wire of the kind {kind!r}; there are: {', '.join(KINDS)}")
    made: Wire = KINDS[kind](**settings) if ports is None else RealWire(*_split(ports))
    try:
        _skip_by_quirk(request, made)
        yield made
    finally:
        made.close()


@pytest.fixture
def serial_pair(wire: Wire) -> Iterator[tuple[serial.SerialBase, serial.SerialBase]]:
    """Both ends of the wire, open at 115200 baud; reads give up after 10 seconds."""
    import serial

    from hil.faults import End

    with ExitStack() as stack:
        ports = []
        for end in End:
            with warnings.catch_warnings():
                # pyserial 3.5 starts the thread of an rfc2217:// port in a way that Python deprecates.
                warnings.filterwarnings("ignore", r"set(Daemon|Name)\(", DeprecationWarning)
                ports.append(serial.serial_for_url(wire.address(end), baudrate=BAUD, timeout=READ_S))
            stack.callback(ports[-1].close)
        yield ports[0], ports[1]


@pytest.fixture
def usb_pair(request: pytest.FixtureRequest) -> Iterator[Callable[[], AbstractContextManager[tuple[Channel, Channel]]]]:
    """What `check_channel` takes: pairs of channels, one end opened as usb://, the other one the device's."""
    from hil.usb.pairs import real_pairs, software_pairs

    ids = request.config.getoption("--hil-usb")
    with software_pairs() if ids is None else real_pairs(ids) as pairs:
        yield pairs


def _skip_by_quirk(request: pytest.FixtureRequest, made: Wire) -> None:
    from hil.quirks import Quirk

    for mark in request.node.iter_markers("skip_quirk"):
        for name in mark.args:
            quirk = name if isinstance(name, Quirk) else Quirk[name]
            if quirk in made.quirks:
                pytest.skip(f"not over this wire ({type(made).__name__}): {quirk.value}")


def _split(ports: str) -> list[str]:
    return [port for port in ports.split(",") if port]


# ------------------------------------------------------------------------------------------------------------ processes


@pytest.fixture
def gateway_process(tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """`gateway_process(config, **environment)`: `config` is a path, or a text that is written to a file.

    Without a table [gateway] in the text it listens on a free port of this computer only, and is not advertised.
    """
    yield from _factory(lambda config: ["serve", str(_file(config, tmp_path))])


@pytest.fixture
def instrument_host(tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """`instrument_host(url, config, **environment)`: `gateway host` at the end of the line `url`."""
    yield from _factory(lambda url, config: ["host", "--serial", url, "--config", str(_file(config, tmp_path))])


def _factory(words: Callable[..., list[str]]) -> Iterator[Callable[..., GatewayProcess]]:
    from hil.processes import GatewayProcess

    with ExitStack() as stack:

        def start(*arguments: Any, **environment: str) -> GatewayProcess:
            return stack.enter_context(GatewayProcess(words(*arguments), environment))

        yield start


def _file(config: str | Path, folder: Path) -> Path:
    if isinstance(config, Path):
        return config
    number = sum(1 for _ in folder.glob("hil-*.toml"))
    path = folder / f"hil-{number}.toml"
    path.write_text(config if "[gateway]" in config else ALONE + config, encoding="utf-8")
    return path


# -------------------------------------------------------------------------------------------------------------- devices


@pytest.fixture(scope="session")
def served_bench(request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    """The bench, served for the whole run: every device is made safe at the end."""
    from hil.processes import GatewayProcess

    bench = request.config.getoption("--hil-bench")
    with GatewayProcess(DEMO if bench is None else ["serve", bench]) as running:
        yield running


class _DemoDevice:
    @pytest.fixture
    def device(self, request: pytest.FixtureRequest, served_bench: GatewayProcess) -> Iterator[Any]:
        """A device of the demo's bench: the one that the mark names, or the first."""
        mark = request.node.get_closest_marker("device")
        name = mark.args[0] if mark else served_bench.document["devices"][0]["name"]
        yield from _reach(served_bench, name)


def _bench_devices(path: Path) -> object:
    """A plugin whose `device` is each device of the bench in turn. Raises UsageError for a file that is no bench."""
    from gateway import config as configuration
    from gateway.errors import ConfigError

    try:
        names = [section.name for section in configuration.load(path).devices]
    except ConfigError as wrong:
        raise pytest.UsageError(f"--hil-bench: {wrong}") from None

    class BenchDevices:
        @pytest.fixture(params=names)
        def device(self, request: pytest.FixtureRequest, served_bench: GatewayProcess) -> Iterator[Any]:
            """A device of the bench."""
            mark = request.node.get_closest_marker("device")
            if mark and request.param not in mark.args:
                pytest.skip(f"--hil-bench: this test is for {', '.join(mark.args)}, not for {request.param}")
            yield from _reach(served_bench, request.param)

    return BenchDevices()


def _reach(bench: GatewayProcess, name: str) -> Iterator[Any]:
    """A device, leased for one test and made safe after it."""
    with bench.connect() as connection:
        with connection.lease(name) as leased:
            yield leased[name]
        connection.root.device(name).make_safe()  # and waited for
