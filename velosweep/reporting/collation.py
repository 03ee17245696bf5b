"""A sweep's derived files and its report, from its samples."""

from __future__ import annotations

from pathlib import Path

from velosweep.files import write_bytes, write_text
from velosweep.garbage_collection import collection_paused
from velosweep.results.derived_files import Derived, derive
from velosweep.results.paths import SweepPaths


def collate(root: Path) -> Derived:
    """Write every derived file of a sweep and its report: the same samples give the same bytes. Raises StorageError."""
    with collection_paused():  # it would take a third of the report's time
        derived = derive(root)
        _write_report(SweepPaths(root), derived)
    return derived


def _write_report(paths: SweepPaths, derived: Derived) -> None:
    from velosweep.reporting.html import render_report

    record = derived.record
    page = render_report(derived.comparisons, record, derived.samples, show_paths=record.show_paths)
    write_text(paths.report, page)
    if record.plots:
        from velosweep.reporting.image_export import main_plots

        for form, content in main_plots(derived.comparisons, record).items():
            write_bytes(paths.report.with_suffix(f".{form}"), content)
