"""`python -m velosweep`."""

import sys

from velosweep.isolation import drop_current_folder

drop_current_folder()  # Python has put it in front of everything that is imported from here on

from velosweep.cli import main  # noqa: E402

sys.exit(main())
