"""The page of a run, at its end."""

from __future__ import annotations

from trainkit import Report, Run, hookimpl, write_run_page


class Page:
    """See `trainkit_reports.report`."""

    def __init__(self, split: str) -> None:
        self.split = split

    @hookimpl
    def trainkit_run_end(self, run: Run, report: Report) -> None:
        write_run_page(run, report, self.split)
