"""Channel URLs: read once, wrong ones refused with what to write instead, and secrets never shown."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.channels import is_url, listen, open_channel, parse_url, redacted, tcp_url
from gateway.channels.line_options import link_config
from gateway.channels.port_names import Wanted
from gateway.channels.serial import SerialOptions
from gateway.channels.ssh import SshOptions
from gateway.channels.unix import UnixOptions
from gateway.channels.url import MAX_URL, SCHEMES
from gateway.errors import ConfigError
from gateway.limits import Limits
from gateway.link.config import LinkConfig


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("tcp://bench3", "bench3", 18871),
        ("tcp://bench3.local:4000", "bench3.local", 4000),
        ("TCP://127.0.0.1:0/", "127.0.0.1", 0),
        ("tcp://[::1]", "::1", 18871),
        ("tcp://[fe80::1%eth0]:4000", "fe80::1%eth0", 4000),
        ("tcp://[fe80::1%25eth0]:4000", "fe80::1%eth0", 4000),
        ("tcp://", None, 18871),
        ("tcp://:5000", None, 5000),
    ],
)
def test_tcp_urls_give_host_and_port(url: str, host: str | None, port: int) -> None:
    parsed = parse_url(url)
    assert (parsed.scheme, parsed.host, parsed.port) == ("tcp", host, port)


def test_tcp_url_puts_an_ipv6_address_in_brackets_and_can_be_read_back() -> None:
    assert tcp_url("10.0.0.1", 80) == "tcp://10.0.0.1:80"
    assert tcp_url("fe80::1%eth0", 80) == "tcp://[fe80::1%25eth0]:80"
    assert parse_url(tcp_url("fe80::1%eth0", 80)).host == "fe80::1%eth0"


def test_unix_urls_give_a_path_and_a_mode() -> None:
    parsed = parse_url("unix:///run/my%20bench/a@b#c.sock?mode=660")
    assert parsed.path == "/run/my bench/a@b#c.sock"
    assert parsed.options == UnixOptions(mode=0o660)
    assert parse_url("unix:/run/s").path == "/run/s"
    assert parse_url("unix:///run/s").options.mode == 0o600


def test_ssh_urls_give_what_ssh_needs() -> None:
    parsed = parse_url("ssh://pi@bench3:2222/opt/bin/gateway?identity=/k&config=/c&compress=on")
    assert (parsed.user, parsed.host, parsed.port, parsed.path) == ("pi", "bench3", 2222, "/opt/bin/gateway")
    assert parsed.options == SshOptions(identity="/k", config="/c", compress=True)
    assert parse_url("ssh://bench3").port is None


def test_serial_urls_give_typed_options() -> None:
    parsed = parse_url("serial:///dev/ttyUSB0?baudrate=921600&parity=Even&stopbits=2&rtscts=yes&dtr=0&rts=off")
    assert parsed.path == "/dev/ttyUSB0"
    assert parsed.options == SerialOptions(
        baudrate=921600, parity="even", stopbits=2, rtscts=True, dtr=False, rts=False
    )


def test_a_line_that_is_kept_is_none() -> None:
    options = parse_url("serial:///dev/ttyUSB0?dtr=keep&rts=KEEP&dtr_at_close=on&rts_at_close=keep").options
    assert (options.dtr, options.rts, options.dtr_at_close, options.rts_at_close) == (None, None, True, None)


def test_a_port_may_be_named_by_what_is_behind_it() -> None:
    parsed = parse_url("serial://?serial_number=A50285BI&vid=0403&pid=0x6001")
    assert (parsed.path, parsed.options.wanted) == ("", Wanted("A50285BI", 0x0403, 0x6001))


@pytest.mark.parametrize(("written", "bits"), [("off", 0), ("0", 0), ("on", 15), ("1", 15), ("9", 9), ("15", 15)])
def test_the_links_options_are_numbers(written: str, bits: int) -> None:
    options = parse_url(f"serial:///dev/ttyUSB0?frame=64&window=1&streams=1&keepalive=0.5&deflate={written}").options
    config = link_config(options, Limits(), initiator=True, line_rate=None)
    assert (config.frame, config.window, config.streams, config.deflate) == (64, 1, 1, bits)
    assert (config.keepalive_s, config.dead_s) == (0.5, 2.0)


def test_a_url_that_says_nothing_of_the_link_leaves_it_as_it_is() -> None:
    limits = Limits(frame=5, in_flight_per_host=7)
    config = link_config(parse_url("serial:///dev/ttyUSB0").options, limits, initiator=False, line_rate=11520.0)
    assert config == LinkConfig(initiator=False, message=5, begun=7, line_rate=11520.0)


@pytest.mark.parametrize(("rate", "frame"), [(None, 512), (92160.0, 512), (5760.0, 288), (960.0, 64), (30.0, 64)])
def test_frames_take_a_twentieth_of_a_second_on_a_slow_line(rate: float | None, frame: int) -> None:
    options = parse_url("serial:///dev/ttyUSB0").options
    assert link_config(options, Limits(), initiator=True, line_rate=rate).frame == frame
    options = parse_url("serial:///dev/ttyUSB0?frame=100").options
    assert link_config(options, Limits(), initiator=True, line_rate=rate).frame == 100


def test_pipe_urls_keep_the_command_line() -> None:
    assert parse_url("pipe:gateway stdio --bench 'my demo'?x=1").path == "gateway stdio --bench 'my demo'?x=1"


@pytest.mark.parametrize(
    ("url", "wants"),
    [
        ("", "write one like tcp://host:18871"),
        ("bench3", "write one like tcp://host:18871"),
        ("bench3:18871", "write tcp://bench3:18871"),
        ("tpc://bench3", "did you mean 'tcp'? known: tcp, tls, unix, pipe, ssh, serial, rfc2217, socket"),
        ("http://bench3", "unknown scheme"),
        ("tcp:bench3", "after tcp: comes //"),
        ("tcp://bench3:http", "a port is a whole number from 0 to 65535"),
        ("tcp://bench3:65536", "a port is"),
        ("tcp://bench3:-1", "a port is"),
        ("tcp://bench3:", "a port is"),
        ("tcp://bench3:\u0661", "a port is"),
        ("tcp://::1:18871", "in brackets"),
        ("tcp://[::1", "in brackets"),
        ("tcp://[bench3]:1", "in brackets stands an IPv6 address"),
        ("tcp://[::1%-x]", "in brackets stands an IPv6 address"),
        ("tcp://-oProxyCommand=x", "a host name has letters"),
        ("tcp://a b", "a host name has letters"),
        ("tcp://pi@bench3", "a tcp URL has no user"),
        ("tcp://bench3/path", "a tcp URL has no path"),
        ("tcp://bench3?nodelay=1", "unknown option 'nodelay'; tcp URLs take: compress"),
        ("tcp://bench3?compress=maybe", "option compress must be true or false"),
        ("tcp://bench3?compress=1&compress=0", "option compress is given twice"),
        ("tcp://bench3?" + "&".join(["compress=1"] * 40), "40 options are too many"),
        ("tcp://bench3\n", "no control characters"),
        ("tcp://" + "a" * MAX_URL, f"at most {MAX_URL} characters"),
        ("unix://run/s", "a unix URL has no host"),
        ("unix:///", "names no file"),
        ("unix:///run/", "names no file"),
        ("unix:///" + "s" * 107, "at most 107 bytes, not 108"),
        ("unix:///run/s%00", "without control characters"),
        ("unix:///run/%ff", "UTF-8"),
        ("unix:///run/s?mode=999", "option mode must be an octal file mode"),
        ("unix:///run/s?mode=%ff", "option mode must be text in UTF-8"),
        ("ssh://", "names no host"),
        ("ssh://-oProxyCommand=x", "a host name has letters"),
        ("ssh://-l@bench3", "a user name has letters"),
        ("ssh://$(reboot)@bench3", "a user name has letters"),
        ("ssh://bench3:0", "there is no port 0"),
        ("ssh://bench3/opt/gateway?command=gw", "not both"),
        ("ssh://bench3?identity=", "option identity must be not empty"),
        ("pipe:", "needs a command"),
        ("pipe:gateway 'stdio", "without its partner"),
        ("serial://", "names no port"),
        ("serial:///", "names no port"),
        ("serial:///dev/ttyUSB0?baud=9600", "unknown option 'baud'; did you mean 'baudrate'?"),
        ("serial:///dev/ttyUSB0?baudrate=fast", "option baudrate must be a whole number from 50 to 12000000"),
        ("serial:///dev/ttyUSB0?baudrate=49", "option baudrate must be"),
        ("serial:///dev/ttyUSB0?framing=hdlc", "option framing must be link or raw"),
        ("serial://?framing=raw", "names no port"),
        ("serial:///dev/ttyUSB0?serial_number=A50285BI", "not both"),
        ("serial://?vid=usb", "option vid must be up to four hexadecimal digits"),
        ("serial://?pid=10403", "option pid must be up to four hexadecimal digits"),
        ("serial:///dev/ttyUSB0?dtr=maybe", "option dtr must be on or off or keep"),
        ("serial:///dev/ttyUSB0?framing=raw&window=4&deflate=off", "window, deflate belong to framing=link"),
        ("serial:///dev/ttyUSB0?compress=on", "the link has deflate=on or off"),
        ("serial:///dev/ttyUSB0?frame=8", "option frame must be a whole number from 16 to 4096"),
        ("serial:///dev/ttyUSB0?window=128", "option window must be a whole number from 1 to 127"),
        ("serial:///dev/ttyUSB0?streams=0", "option streams must be a whole number from 1 to 128"),
        ("serial:///dev/ttyUSB0?deflate=16", "option deflate must be a whole number from 9 to 15"),
        ("serial:///dev/ttyUSB0?deflate=much", "option deflate must be on or off or a whole number from 9 to 15"),
        ("serial:///dev/ttyUSB0?keepalive=0.05", "option keepalive must be a number of seconds from 0.1 to 600"),
        ("serial:///dev/ttyUSB0?keepalive=1e1", "option keepalive must be"),
        ("serial:///dev/ttyUSB0?keepalive=.", "option keepalive must be"),
        ("serial:///dev/ttyUSB0?xonxoff=1&rtscts=1", "one flow control is enough"),
        ("socket://10.0.0.7", "needs the device server's host and port"),
        ("rfc2217://:2217", "needs the device server's host and port"),
        ("socket://10.0.0.7:4001?dtr=off", "unknown option 'dtr'"),
        ("rfc2217://10.0.0.7:2217?bytesize=7", "need bytesize=8"),
        ("serial:///dev/ttyUSB0?bytesize=7", "need bytesize=8"),
        ("serial:///dev/ttyUSB0?parity=odder", "option parity must be none or even or odd"),
        ("serial:///dev/ttyUSB0?stopbits=3", "option stopbits must be"),
        ("serial:///dev/ttyUSB0?framing=raw&xonxoff=1", "use rtscts"),
    ],
)
def test_a_wrong_url_says_in_one_line_what_to_write_instead(url: str, wants: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert wants in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_scheme_has_its_module() -> None:
    samples = {
        "tcp": "tcp://h",
        "tls": "tls://h?identity=/etc/x",
        "unix": "unix:///s",
        "pipe": "pipe:x",
        "ssh": "ssh://h",
        "serial": "serial:///dev/x",
        "rfc2217": "rfc2217://h:1",
        "socket": "socket://h:1",
        "usb": "usb://1209:0001",
        "gadget": "gadget://",
    }
    assert set(samples) == set(SCHEMES)
    assert [parse_url(url).scheme for url in samples.values()] == list(samples)


@pytest.mark.parametrize("url", ["tcp://bench3", "TCP:bench3", "unix:/s", "pipe:gateway stdio", "http://x", "x://"])
def test_what_is_meant_as_a_url_is_one(url: str) -> None:
    assert is_url(url)


@pytest.mark.parametrize("name", ["", "bench3", "Bench of Ada", "bench3:18871", "tcp"])
def test_a_bare_name_is_no_url(name: str) -> None:
    assert not is_url(name)


# ------------------------------------------------------------------------------------------------------------- secrets

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"tcp://ada:{SECRET}@bench3:18871",
        f"tcp://:{SECRET}@bench3",
        f"tcp://{SECRET}@bench3",
        f"ssh://pi:{SECRET}@bench3/opt/gateway",
        f"ssh://pi:p@{SECRET}@bench3",
        f"tcp://ada:x/{SECRET}@bench3",
        f"tcp://ada:x?{SECRET}@bench3",
        f"tcp://ada:x#{SECRET}@bench3",
        f"TCP://ada:{SECRET}@[::1]:18871",
        f"nonsense://ada:{SECRET}@bench3",
        f"tcp://bench3?password={SECRET}",
        f"tcp://bench3?compress=1&token={SECRET}",
        f"tcp://bench3?api_key={SECRET}&compress=1",
        f"serial:///dev/ttyUSB0?PassPhrase={SECRET}",
        f"ssh://bench3?client_secret={SECRET}&identity=/k",
        f"pipe:sshpass -p {SECRET} ssh bench3 gateway stdio",
        f"pipe:gw --token={SECRET} '",
        f" pipe:\tgw {SECRET}",
    ],
)
def test_a_secret_in_a_url_reaches_no_text(url: str) -> None:
    assert SECRET not in redacted(url)
    for use in (parse_url, listen, *(() if "sshpass" in url else (open_channel,))):
        try:
            shown = f"{use(url)!r} {use(url)}"
        except ConfigError as error:
            shown = "".join(traceback.format_exception(error)) + repr(error.facts)
        assert SECRET not in shown


@pytest.mark.parametrize(
    "url",
    [
        "tcp://bench3:18871",
        "tcp://[fe80::1%eth0]:18871?compress=1",
        "unix:///run/a@b.sock?mode=660",
        "ssh://pi@bench3:22/opt/gateway?identity=/home/pi/.ssh/id",
        "serial:///dev/serial/by-id/usb-FTDI?baudrate=9600",
        "pipe:gateway",
        "",
        "bench3",
    ],
)
def test_a_url_without_secrets_is_shown_as_it_is(url: str) -> None:
    assert redacted(url) == url


def test_a_parsed_url_shows_no_arguments_of_a_command() -> None:
    parsed = parse_url(f"pipe:gw --token {SECRET}")
    assert str(parsed) == "pipe:gw ..."
    assert repr(parsed) == "ChannelUrl('pipe:gw ...')"


@given(st.text(max_size=60) | st.from_regex(r"(tcp|unix|ssh|serial|pipe)://?[a-z@:/?=&%\[\]]{0,30}", fullmatch=True))
def test_any_text_is_a_url_or_a_config_error(text: str) -> None:
    redacted(text)
    try:
        parsed = parse_url(text)
    except ConfigError:
        return
    assert parsed.scheme in SCHEMES
