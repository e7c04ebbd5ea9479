"""The launcher as a process, with stand-ins for the services: RECORD_DIRECTORY, then the launcher's arguments."""

import sys
from pathlib import Path

from portier_broker.__main__ import main

STAND_IN = str(Path(__file__).with_name("stand_in_service.py"))
NAMES = ("auth-api", "mailer", "key-rotator")

if __name__ == "__main__":
    sys.exit(main(sys.argv[2:], commands={name: (sys.executable, STAND_IN, name, sys.argv[1]) for name in NAMES}))
