"""python -m parl.cli."""

import sys

from parl.cli.main import main

sys.exit(main())
