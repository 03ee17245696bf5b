"""llama.cpp from the package xllamacpp, in a process of its own: an abort inside it can't end ours.

Run as a program of its own by `embedded`. Settings come as one line of JSON on stdin; when stdin ends,
our parent is gone and so are we. What llama.cpp prints goes to stdout and stderr, which are the log; the address
is said there as llama-server says it. Imports little, so that it starts fast.
"""

import json
import os
import sys
import time
from typing import Any


def main() -> None:
    """Serve until stdin ends; with --devices say what devices there are, in llama-server's words, and end.

    With --speculation say, as JSON, which kinds and which parameters of speculation there are, and end.
    """
    import xllamacpp

    if sys.argv[1:] == ["--speculation"]:
        json.dump(
            {"kinds": _kinds(xllamacpp), "parameters": _parameters(xllamacpp.CommonParams().speculative)}, sys.stdout
        )
        return

    if sys.argv[1:] == ["--devices"]:
        for device in xllamacpp.get_device_info():
            if "GPU" in str(device["type"]):
                total, free = device["memory_total"] >> 20, device["memory_free"] >> 20
                sys.stdout.write(f"  {device['name']}: {device['description']} ({total} MiB, {free} MiB free)\n")
        return
    line = sys.stdin.readline()
    if not line:
        os._exit(0)
    params = xllamacpp.CommonParams()
    apply_settings(params, json.loads(line), xllamacpp)
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        sys.stderr.write(f"error: failed to load model: {error}\n")
        sys.stderr.flush()
        # llama.cpp's log has a thread of its own, which is about to write the cause. Then skip the destructors:
        # others of its threads may be half started.
        time.sleep(0.3)
        os._exit(1)
    sys.stderr.write(f"embedded llama.cpp is listening on {server.listening_address}\n")
    sys.stderr.flush()
    sys.stdin.read()
    os._exit(0)


def apply_settings(params: Any, settings: dict[str, Any], xllamacpp: Any) -> None:
    """Set every (dotted) attribute; values of the form {"enum": [type, member]} are looked up.

    Raises AttributeError for one that this xllamacpp has not, rather than measure something else.
    """
    for path, value in settings.items():
        *parents, name = path.split(".")
        target = params
        for parent in parents:
            target = getattr(target, parent)
        current = getattr(target, name)  # some bindings accept unknown attributes silently
        if name == "tensor_split":  # a fixed array of as many shares as llama.cpp can have devices
            value = [*value, *[0.0] * (len(current) - len(value))]
        setattr(target, name, _value(value, xllamacpp))


def _kinds(xllamacpp: Any) -> list[str]:
    """The kinds of speculation, as --spec-type calls them."""
    members = xllamacpp.common_speculative_type.__members__
    names = (name.removeprefix("COMMON_SPECULATIVE_TYPE_").lower().replace("_", "-") for name in members)
    return [name for name in names if name != "count"]  # how many there are


def _parameters(section: Any, prefix: str = "") -> list[str]:
    """Dotted names of the attributes below `section` that hold plain values."""
    found = []
    for name in dir(section):
        value = None if name.startswith("_") else getattr(section, name)
        if isinstance(value, (bool, int, float, str)):
            found.append(prefix + name)
        elif type(value).__name__.startswith("CommonParams"):
            found += _parameters(value, f"{prefix}{name}.")
    return found


def _value(value: Any, xllamacpp: Any) -> Any:
    if isinstance(value, dict):
        kind, member = value["enum"]
        return getattr(getattr(xllamacpp, kind), member)
    if isinstance(value, list):
        return [_value(item, xllamacpp) for item in value]
    return value


if __name__ == "__main__":
    main()
