"""The page of results says what the stored tables say."""

import pytest

from unveil.errors import UnveilError
from unveil.tasks import report


def test_the_page_is_that_of_the_stored_tables():
    text = report.PAGE.read_text(encoding="utf-8")
    assert report.page(text) == text
    assert "| flat steady (views) | 37.55 |" in text


def test_a_missing_mark_or_table_is_named(tmp_path, monkeypatch):
    with pytest.raises(UnveilError, match="<!-- forest -->"):
        report.page("nothing")
    monkeypatch.setattr(report.project, "weights_dir", lambda: tmp_path)
    with pytest.raises(UnveilError, match=r"test.csv: no such table; make it as docs/results.md says"):
        report.tables("forest")
