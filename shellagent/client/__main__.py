"""`python -m shellagent.client`: the command `atom` in a checkout."""

import sys

from shellagent.client.cli import main

sys.exit(main())
