"""What one llama.cpp program can do and which devices it sees; and how a child is confined to some of them.

Found by asking it (`--help`, `--version`, `--list-devices`), never by its build number.
"""

import functools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from velosweep.errors import ProgramError
from velosweep.llama_cpp import process
from velosweep.llama_cpp.setting_table import is_ours, setting_of
from velosweep.values import Device, Lane


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """The flags of one program and its version."""

    program: str
    build: str
    flags: Mapping[str, str]  # every spelling -> what follows it, "" for a switch
    spec_types: tuple[str, ...] = ()
    traces: bool = False  # its log has the level `trace`, 4; before 2026 that prints several lines a token
    defaults: Mapping[str, str] = field(default_factory=dict)  # every spelling -> what --help says of its default

    def __str__(self) -> str:
        """As messages call it."""
        return f"{self.program} (build {self.build})"

    def name(self, setting: str) -> str | None:
        """What this program calls a setting of the table; None if it has no such flag."""
        return next((flag for flag in setting_of(setting).flags if flag in self.flags), None)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of speculation that it can do, by llama.cpp's names, `none` among them where it says so.

        Builds before mid-2026 have no name for a draft model alone; those before 2026 know nothing else.
        """
        return self.spec_types if "draft-simple" in self.spec_types else ("draft-simple", *self.spec_types)

    def choices(self, flag: str) -> tuple[str, ...]:
        """What a flag takes, where --help lists that: `{none,layer,row}`."""
        choices = re.fullmatch(r"[{\[]([a-z0-9_,|-]+)[}\]]", self.flags[flag])
        return tuple(re.split(r"[,|]", choices[1])) if choices else ()

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters of speculation that it has and velosweep gives no value of its own, e.g. `draft_conf_min`."""
        names = (flag.removeprefix("--spec-").replace("-", "_") for flag in self.flags if flag.startswith("--spec-"))
        return tuple(name for name in names if not is_ours(name))


_FLAG = r"-{1,2}[A-Za-z][A-Za-z0-9_-]*"
_ENTRY_START = re.compile(rf"^(?=(?:  )?{_FLAG})", re.MULTILINE)
# Spellings, then one space and the value's placeholder; two or more spaces lead to the description.
_ENTRY = re.compile(
    rf"\s*({_FLAG}(?:,[ ]*{_FLAG})*),?(?=[ \n]|$)(?:[ ](?=\S)(\S+(?:[ ]\S+)*?)(?=[ ]{{2,}}|$))?", re.MULTILINE
)
_DEFAULT = re.compile(r"default: *'?(same as --[a-z-]+|[^\s,)']+)")


def parse_help(text: str) -> dict[str, str]:
    """`--help` to {flag: what follows it}. Flags that are listed only to say that they were removed are left out.

    An entry starts in column 0 with a dash (up to two spaces before it in builds of 2023) and goes on in indented
    lines. `-t,    --threads N      number of …` -> {"-t": "N", "--threads": "N"}.
    """
    flags: dict[str, str] = {}
    removed: set[str] = set()
    for names, value, text_of_entry in _entries(text):
        if "has been removed" in text_of_entry:
            removed.update(names)
        else:
            flags.update(dict.fromkeys(names, value))
    return {name: value for name, value in flags.items() if name not in removed}


def parse_defaults(text: str) -> dict[str, str]:
    """`--help` to {flag: its default}: `(default: 0, 0 = loaded from model)` -> "0"; `same as --threads` as it is."""
    defaults: dict[str, str] = {}
    for names, _, text_of_entry in _entries(text):
        stated = _DEFAULT.search(" ".join(text_of_entry.split()))
        if stated is not None:
            defaults.update(dict.fromkeys(names, stated.group(1)))
    return defaults


def _entries(text: str) -> Iterator[tuple[list[str], str, str]]:
    """The spellings, the placeholder and the whole text of each entry of `--help`."""
    for text_of_entry in _ENTRY_START.split(text):
        entry = _ENTRY.match(text_of_entry)
        if entry is not None:
            yield re.split(r", *", entry.group(1)), entry.group(2) or "", text_of_entry


def program_folders(llama_cpp: Path) -> tuple[Path, ...]:
    """Where the programs of a llama.cpp may lie, in the contract's order."""
    return (llama_cpp / "build" / "bin", llama_cpp / "bin", llama_cpp, llama_cpp / "build" / "bin" / "Release")


def find_in(folder: Path, *names: str) -> Path | None:
    """The first of these programs that the folder has, by that name: a link is not followed."""
    for name in names:
        for candidate in (folder / name, folder / f"{name}.exe"):
            if candidate.is_file() and os.access(candidate, os.X_OK):
                return candidate.absolute()
    return None


def find_program(llama_cpp: Path, name: str) -> Path | None:
    """A program of the llama.cpp in a folder."""
    return next(filter(None, (find_in(folder, name) for folder in program_folders(llama_cpp))), None)


@functools.cache
def capabilities_of(program: str) -> Capabilities:
    """Ask `program` (an absolute path), once in this process.

    Raises ProgramError if it can't be run or doesn't answer as llama.cpp does.
    """
    answer = _answer(program, "--help")
    text = answer.stdout if parse_help(answer.stdout) else answer.stderr
    flags = parse_help(text)
    if "--model" not in flags:
        last = (answer.stderr.strip() or answer.stdout.strip()).splitlines()[-1:] or ["it printed nothing"]
        ended = process.describe_exit(answer.exit_code)
        raise ProgramError(
            f"{program} does not answer --help as llama.cpp does ({ended}): {last[0]}",
            remedy="check llama_cpp.path, or the libraries that the program needs",
        )
    version = _answer(program, "--version")
    return Capabilities(
        program=program,
        build=parse_version(f"{version.stderr}\n{version.stdout}"),
        flags=flags,
        spec_types=parse_spec_types(flags),
        traces=re.search(r"^ *- 4: trace\b", answer.stdout, re.MULTILINE) is not None,
        defaults=parse_defaults(text),
    )


def parse_spec_types(flags: Mapping[str, str]) -> tuple[str, ...]:
    """The kinds that --spec-type takes: `[none|ngram-mod]` or `none,draft-simple,…`; empty without that flag."""
    named = flags.get("--spec-type", "").strip("[]{}")
    return tuple(kind for kind in re.split(r"[,|]", named) if re.fullmatch(r"[a-z0-9-]+", kind))


def _answer(program: str, question: str) -> process.ProgramOutput:
    """Raises ProgramError if the program can't be run."""
    try:
        answer = process.ask([program, question])
        failure = re.match(r"exec: .*: (.+)$", answer.stderr)
        if failure is None:
            return answer
        cause = failure.group(1)
    except OSError as error:
        cause = error.strerror or str(error)
    raise ProgramError(f"{program} can't be run: {cause}", remedy="check that it is built for this machine")


def parse_version(text: str) -> str:
    """`version: 4191 (0bbd2262)` -> `4191 (0bbd2262)`; "unknown" if it says none."""
    match = re.search(r"^version: *(.+?)\s*$", text, re.MULTILINE)
    return match.group(1) if match else "unknown"


# Beginning of the name in llama.cpp's list -> kind; of a GPU that several back ends list the first of these is used.
# CPU-side helpers (BLAS, AMX) and RPC servers are no devices here.
DEVICE_KINDS = {
    "CUDA": "cuda",
    "ROCm": "rocm",
    "MUSA": "musa",
    "SYCL": "sycl",
    "Metal": "metal",
    "MTL": "metal",
    "Vulkan": "vulkan",
    "GPUOpenCL": "opencl",
    "OpenCL": "opencl",
    "CANN": "cann",
}
# Variables that hide devices from a back end, which then numbers those that are left from 0. A device's index is the
# one that the variable knows it by.
VISIBILITY = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "HIP_VISIBLE_DEVICES", "vulkan": "GGML_VK_VISIBLE_DEVICES"}
_DEVICE = re.compile(r"^[ \t]+([A-Za-z]+?)(\d{0,6}): (.+?) \((\d{1,12}) MiB, \d+ MiB free\)\s*$", re.MULTILINE)


@functools.cache
def list_devices(program: str) -> tuple[Device, ...]:
    """The GPUs that a program can use, by its own list; empty for a build that has none or can't list them.

    Asked once in this process. Raises ProgramError where asking crashed it.
    """
    flag = capabilities_of(program).name("list_devices")
    if flag is None:
        return ()
    # nvidia-smi's order and CUDA's own differ unless both go by the bus.
    answer = process.ask([program, flag], timeout_s=60.0, environment={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    return parse_devices(answer, f"{program} {flag}")


def parse_devices(answer: process.ProgramOutput, asked: str) -> tuple[Device, ...]:
    """The devices of an answer. Raises ProgramError where the program died: one without GPUs says so."""
    died = answer.exit_code is None or process.signal_of(answer.exit_code)
    if died and "Available devices" not in answer.stdout:
        raise ProgramError(
            f"{asked} doesn't say which GPUs there are ({process.describe_exit(answer.exit_code)})",
            remedy="run it in a shell to see why",
        )
    return parse_list(answer.stdout)


def parse_list(text: str) -> tuple[Device, ...]:
    """`--list-devices` to devices. `  CUDA0: NVIDIA H100 (81079 MiB, 80555 MiB free)` -> cuda, index 0."""
    return tuple(
        Device(
            kind=DEVICE_KINDS[prefix],
            name=name,
            index=int(index) if index else None,
            memory_bytes=int(total) << 20,
            program_name=prefix + index,
        )
        for prefix, index, name, total in _DEVICE.findall(text)
        if prefix in DEVICE_KINDS
    )


def visible_names(lane: Lane) -> list[str]:
    """What a child pinned to the lane calls its devices: what is visible is numbered from 0 again.

    Empty where a device's name isn't known.
    """
    names = []
    for position, device in enumerate(device for device in lane.devices if device.kind != "cpu"):
        if device.program_name is None:
            return []
        prefix = device.program_name.rstrip("0123456789")
        renumbered = device.kind in VISIBILITY or device.kind == "sycl"
        names.append(f"{prefix}{position}" if renumbered else device.program_name)
    return names


def pinning_environment(lane: Lane) -> dict[str, str | None]:
    """Variables that show a child only the lane's devices; for a lane of the CPU, none of a GPU's."""
    gpus = [device for device in lane.devices if device.kind != "cpu"]
    if not gpus:
        return {**dict.fromkeys(VISIBILITY.values(), ""), "ROCR_VISIBLE_DEVICES": None}
    indices = ",".join(str(device.index) for device in gpus)
    kind = gpus[0].kind
    if kind == "cuda":
        uuids = ",".join(device.uuid or str(device.index) for device in gpus)
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": uuids}
    if kind == "rocm" and all((device.uuid or "").startswith("GPU-") for device in gpus):
        # HIP_VISIBLE_DEVICES takes no UUIDs; HIP then counts what ROCR leaves.
        return {"ROCR_VISIBLE_DEVICES": ",".join(device.uuid or "" for device in gpus), "HIP_VISIBLE_DEVICES": None}
    if kind == "sycl":
        return {"ONEAPI_DEVICE_SELECTOR": f"level_zero:{indices}"}
    return {VISIBILITY[kind]: indices} if kind in VISIBILITY else {}
