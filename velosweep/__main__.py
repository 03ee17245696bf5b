"""`python -m velosweep`."""

import sys

from velosweep.cli import main

sys.exit(main())
