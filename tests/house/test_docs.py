"""The documentation holds together: links lead somewhere, pages can be found, decision records are in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]

FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$", re.MULTILINE)


def links(page: Path) -> Iterator[str]:
    """The targets of the links in `page`, code left out."""
    prose = CODE.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))
    return (match[1] for match in LINK.finditer(prose))


def local_links(page: Path) -> Iterator[tuple[Path, str]]:
    """The links of `page` that stay in the repository: file, and anchor or ''."""
    for target in links(page):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


def anchors(page: Path) -> set[str]:
    """The anchors that a renderer gives the headings of `page`."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", match[1].lower()).strip().replace(" ", "-") for match in HEADING.finditer(prose)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    broken = [
        f"{target.relative_to(ROOT)}#{anchor}" if target.is_relative_to(ROOT) else f"outside the repository: {target}"
        for target, anchor in local_links(page)
        if not target.is_relative_to(ROOT)
        or not target.exists()
        or (anchor and target.suffix == ".md" and anchor not in anchors(target))
    ]
    assert not broken


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_of_the_built_documentation_links_to_nothing_outside_it(page: Path) -> None:
    assert [str(target) for target, _ in local_links(page) if not target.is_relative_to(DOCS)] == []


def test_every_page_can_be_reached_from_the_first_one() -> None:
    start = DOCS / "index.md"
    reached, waiting = {start}, [start]
    while waiting:
        for target, _ in local_links(waiting.pop()):
            page = target / "README.md" if target.is_dir() else target
            if page.suffix == ".md" and page.is_relative_to(DOCS) and page not in reached:
                reached.add(page)
                waiting.append(page)
    assert sorted(set(DOCS.rglob("*.md")) - reached) == []


def test_decision_records_are_numbered_without_gaps_and_listed_in_the_index() -> None:
    records = sorted(page.name for page in (DOCS / "decisions").glob("[0-9]*.md"))
    assert [int(name[:4]) for name in records] == list(range(1, len(records) + 1))
    listed = {target.name for target, _ in local_links(DOCS / "decisions" / "README.md")}
    assert set(records) == listed


@pytest.mark.parametrize("record", sorted((DOCS / "decisions").glob("[0-9]*.md")), ids=lambda record: record.name)
def test_a_decision_record_has_a_status_and_its_three_parts(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert re.search(r"^Status: (proposed|accepted|replaced by \[?\d{4})", text, re.MULTILINE)
    assert [heading for heading in HEADING.findall(text) if heading in {"Context", "Decision", "Consequences"}] == [
        "Context",
        "Decision",
        "Consequences",
    ]


def test_the_changelog_begins_with_what_is_not_released() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", heading) for heading in headings[1:])
