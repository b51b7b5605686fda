"""The reference page of the command says what the command does."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from gateway.cli.exits import Exit
from gateway.cli.main import COMMANDS, LazyGroup, group

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")


def chapter(name: str) -> str:
    """The part of the page about one command."""
    (text,) = re.findall(rf"^## gateway {name}\b.*?\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_chapter_with_its_options(name: str) -> None:
    assert isinstance(group, LazyGroup)
    found = group.get_command(click.Context(group), name)
    assert found is not None
    common = {"--json", "--debug", "--gateway", "--timeout"}
    commands = [found, *(found.commands.values() if isinstance(found, click.Group) else ())]
    parameters = [parameter for each in commands for parameter in each.params]
    options = {flag for option in parameters if isinstance(option, click.Option) for flag in option.opts} - common
    assert sorted(option for option in options if option not in chapter(name)) == []


@pytest.mark.parametrize("code", Exit)
def test_every_exit_code_is_in_the_page_and_in_the_help(code: Exit) -> None:
    assert re.search(rf"^\| {code.value} \| ", PAGE, re.MULTILINE)
    assert re.search(rf"\b{code.value} ", group.epilog or "")
