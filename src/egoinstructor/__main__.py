"""`python -m egoinstructor`: the command."""

import sys

from egoinstructor.cli import main

if __name__ == "__main__":
    sys.exit(main())
