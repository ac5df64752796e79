"""docs/benchmarks.md is written in parts."""

from benchmarks.report import replaced, table

BOTH = "# Benchmarks\n\n## Platform\n\nold\n\n### more\n\n## Serving\n\nkept\n\n### kept too\n"


def test_a_part_is_written_anew_without_losing_the_other() -> None:
    written = replaced(BOTH, "Platform", ["new"])
    assert written == "# Benchmarks\n\n## Platform\n\nnew\n\n## Serving\n\nkept\n\n### kept too\n"
    assert replaced(written, "Platform", ["old", "", "### more"]) == BOTH


def test_the_first_part_makes_the_document() -> None:
    assert replaced("", "Serving", ["new"]) == "# Benchmarks\n\n## Serving\n\nnew\n"


def test_a_table_has_a_rule_below_its_head() -> None:
    assert table(("a", "b"), [("1", "2")]) == ["| a | b |", "|---|---|", "| 1 | 2 |"]
