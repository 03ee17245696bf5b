"""Python 3.10 has no PYTHONSAFEPATH: this, found through PYTHONPATH, keeps it from importing from the current folder.

Python runs it before it puts the current folder on its path. A sitecustomize of somebody else's is run as before.
"""

import os
import sys
from importlib.machinery import PathFinder

if not os.path.isdir(os.path.join(os.getcwd(), "velosweep", "_python310")):  # noqa: PTH109, PTH112, PTH118
    sys.path_importer_cache[os.getcwd()] = None  # noqa: PTH109 (None: no modules there)
sys.path[:] = [entry for entry in sys.path if entry != os.path.dirname(__file__)]  # noqa: PTH120
_another = PathFinder.find_spec("sitecustomize")
if _another is not None and _another.loader is not None:
    _another.loader.exec_module(sys.modules[__name__])
