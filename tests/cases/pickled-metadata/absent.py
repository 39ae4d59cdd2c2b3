"""The payload never ran: `absent.py CANARY`."""

import sys
from pathlib import Path

assert not Path(sys.argv[1]).exists(), "code of the checkpoint ran"
