"""A sweep's derived files and its report, from its samples."""

from pathlib import Path

from velosweep.files import write_bytes, write_text
from velosweep.garbage_collection import collection_paused
from velosweep.results.derived_files import SweepResults, write_derived_files
from velosweep.results.paths import SweepPaths


def collate(root: Path) -> SweepResults:
    """Write every derived file of a sweep and its report: the same samples give the same bytes. Raises StorageError."""
    with collection_paused():  # it would take a third of the report's time
        derived = write_derived_files(root)
        write_report(derived, show_paths=derived.record.show_paths)
        if derived.record.plots:
            write_plots(derived)
    return derived


def write_report(derived: SweepResults, *, show_paths: bool) -> Path:
    """Write report.html; returns where. `show_paths`: home directories too. Raises StorageError."""
    from velosweep.reporting.html import render_report  # imports SciPy, which is done while servers load

    path = SweepPaths(derived.root).report
    write_text(path, render_report(derived.comparisons, derived.record, derived.samples, show_paths=show_paths))
    return path


def write_plots(derived: SweepResults) -> None:
    """Write report.png and report.svg. Raises StorageError, and ConfigError without matplotlib."""
    from velosweep.reporting.image_export import main_plots

    for form, content in main_plots(derived.comparisons, derived.record).items():
        write_bytes(SweepPaths(derived.root).report.with_suffix(f".{form}"), content)
