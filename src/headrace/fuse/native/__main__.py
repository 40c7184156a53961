"""`python -m headrace.fuse.native DIRECTORY`."""

import sys

from headrace.fuse.native import main

sys.exit(main(sys.argv[1:]))
