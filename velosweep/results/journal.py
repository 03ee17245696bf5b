"""Each sample on disk when it exists: one checksummed JSON line a sample or event, appended and synced."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

from velosweep.errors import BusyError, StorageError
from velosweep.files import as_storage_error, make_folder, replacing, storage_error, sync_folder, write_all
from velosweep.locks import HolderLock
from velosweep.results.parquet_files import check_schema
from velosweep.values import SCHEMA_VERSION, Mode, Sample, Status

# A line is {"crc":"01234567","kind":…}: the checksum covers everything after its comma, so that it can be
# checked without parsing, and the line is still plain JSON for any other reader.
_CHECKSUM = slice(8, 16)
_COVERED = 18
_HEAD = b'{"crc":"'
_JSON = orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY
_SAMPLE_FIELDS = tuple(field.name for field in fields(Sample))


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalEvent:
    """Something that happened beside the samples: `launch`, `job`, `plan` … with plain JSON values."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalContents:
    """What could be read. `damaged`: (line number from 1, why) of lines that could not."""

    samples: tuple[Sample, ...]
    events: tuple[JournalEvent, ...]
    damaged: tuple[tuple[int, str], ...]


@contextmanager
def sweep_lock(path: Path) -> Iterator[None]:
    """Hold a sweep's lock file exclusively. Raises BusyError naming the holder."""
    make_folder(path.parent)
    lock = HolderLock(path)
    with as_storage_error(path):
        taken = lock.acquire(host=socket.gethostname())
    if not taken:
        raise BusyError(
            f"{path.parent} is being written by {_named(lock.holder())}",
            remedy="wait until it ends; for a new sweep choose another hydra.sweep.dir",
        )
    try:
        yield
    finally:
        lock.release(remove=True)


def sweep_writer(path: Path) -> str | None:
    """Which other process holds a sweep's lock file, that is, measures or writes the sweep; None where none does."""
    lock = HolderLock(path)
    return _named(lock.holder()) if lock.is_held() else None


def _named(holder: Mapping[str, Any]) -> str:
    return f"process {holder.get('pid')} on {holder['host']}" if "host" in holder else "another process"


class Journal:
    """Appends to one sweep's journal; safe to share between threads, exclusive between processes.

    Opening creates the file and its folder, takes the sweep's lock (BusyError says who has it) and seals a
    line that an earlier process left torn. Every append is on disk when it returns, or raises StorageError
    and leaves the journal as it was. `on_line` is called with each line once it is on disk, in order.
    """

    def __init__(
        self, path: Path, *, lock: Path | None = None, on_line: Callable[[bytes], None] = lambda line: None
    ) -> None:
        self._path = path
        self._on_line = on_line
        self._mutex = threading.Lock()
        make_folder(path.parent)
        with ExitStack() as stack:
            stack.enter_context(sweep_lock(lock or path.with_name("lock")))
            with as_storage_error(path):
                self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            self._size, self._empty_size = os.fstat(self._handle).st_size, 0
            if self._size == 0:
                self._write(_line("journal", {"schema_version": SCHEMA_VERSION}))
                sync_folder(path.parent)
                self._empty_size = self._size
            elif os.pread(self._handle, 1, self._size - 1) != b"\n":
                self._write(b"\n")
            self._held = stack.pop_all()

    def append(self, sample: Sample) -> None:
        """Put one sample on disk. Raises StorageError."""
        self._write(_line("sample", sample))

    def note(self, kind: str, **data: object) -> None:
        """Put one event on disk; `data` must be JSON. Raises StorageError."""
        self._write(_line(kind, data))

    def copy(self, line: bytes) -> None:
        """Put a line of another journal on disk as it is. Raises StorageError, also for a line that is damaged."""
        why = damage(line)
        if why is not None:
            raise StorageError(f"A line for {self._path} is {why}")
        self._write(line)

    def _write(self, line: bytes) -> None:
        with self._mutex:
            if self._handle < 0:
                raise StorageError(f"The journal {self._path} is closed")
            try:
                write_all(self._handle, line)
                getattr(os, "fdatasync", os.fsync)(self._handle)  # the inode's times need no sync
            except OSError as error:
                # Half a line would spoil the next one: we are the only writer, so cut it off again.
                with suppress(OSError):  # a disk gone read-only: the torn line is recognised when it is read
                    os.ftruncate(self._handle, self._size)
                raise storage_error(self._path, error) from error
            self._size += len(line)
            self._on_line(line)

    def close(self) -> None:
        """Close the file, which goes where it is new and nothing came, and release the lock; idempotent."""
        with self._mutex:
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1
                if self._size == self._empty_size:
                    with suppress(OSError):  # it does no harm
                        self._path.unlink()
        self._held.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_journal(path: Path, samples: Iterable[Sample]) -> None:
    """Write a whole journal of these samples, or nothing. Raises StorageError. The caller holds the sweep's lock."""
    with replacing(path) as beside, beside.open("wb") as file:
        file.write(_line("journal", {"schema_version": SCHEMA_VERSION}))
        file.writelines(_line("sample", sample) for sample in samples)


def _line(kind: str, values: object) -> bytes:
    """A line of the journal; a figure that is not finite is undefined, hence null."""
    try:
        text = orjson.dumps(values, option=_JSON)
    except orjson.JSONEncodeError:  # a lone surrogate (undecodable bytes of a log): no other reader takes them
        plain = asdict(values) if isinstance(values, Sample) else values
        text = orjson.dumps(_without_surrogates(plain), option=_JSON)
    body = b'"kind":"%s",%s' % (kind.encode(), text[1:]) if text != b"{}" else b'"kind":"%s"}' % kind.encode()
    return b'{"crc":"%08x",%s\n' % (crc32(body), body)


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(item) for item in value]
    return value


def row_to_sample(row: Mapping[str, Any]) -> Sample:
    """A sample from its line's JSON values; what a newer program added is left out.

    Raises KeyError, TypeError or ValueError for what is no sample.
    """
    values: dict[str, Any] = {name: row[name] for name in _SAMPLE_FIELDS if name in row}
    values["mode"] = Mode(values["mode"])
    values["status"] = Status(values["status"])
    values["started_at"] = datetime.fromisoformat(values["started_at"].replace("Z", "+00:00"))
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Sample(**values)


def scan(path: Path) -> Iterator[tuple[int, bytes, str | None]]:
    """Every line as (number from 1, its bytes, why it can't be trusted or None). Raises StorageError."""
    with as_storage_error(path, doing="read"), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield number, line, damage(line)


def damage(line: bytes) -> str | None:
    """Why a line can't be trusted, None where it can."""
    if not line.endswith(b"\n"):
        return "torn: the write was cut short"
    if not line.startswith(_HEAD) or line[_CHECKSUM.stop : _COVERED] != b'",':
        return "not a journal line"
    if line[_CHECKSUM] != b"%08x" % crc32(line[_COVERED:-1]):
        return "damaged or edited: its checksum does not fit"
    return None


def read_journal(path: Path) -> JournalContents:
    """Everything that can be read. Raises StorageError, or SchemaError for a newer program's journal."""
    samples, events, damaged = [], [], []
    for number, line, why in scan(path):
        if why is not None:
            damaged.append((number, why))
            continue
        try:
            row: dict[str, Any] = json.loads(line)
            kind = row.pop("kind")
            del row["crc"]
            if kind == "sample":
                samples.append(row_to_sample(row))
            elif kind == "journal":
                check_schema(path, row["schema_version"])
            else:
                events.append(JournalEvent(kind=kind, data=row))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:  # a checksum proves little
            damaged.append((number, f"not a sample: {error}"))
    return JournalContents(samples=tuple(samples), events=tuple(events), damaged=tuple(damaged))
