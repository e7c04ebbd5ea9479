"""Asks a service's internal port how it is: `python -m service_kit.healthcheck [--port N] [--path /readyz]`.

For a container's HEALTHCHECK: only the standard library, and done within its bound. Exit code 0 = well, 1 = not.
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys

MOST_BYTES = 64 * 1024


def main(argv: list[str] | None = None) -> int:
    """Print the answer; the exit code tells whether its status was 200."""
    parser = argparse.ArgumentParser(prog="service_kit.healthcheck", description="Ask a service how it is")
    port = os.environ.get("BROKER_INTERNAL_PORT", "")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=int(port) if port.isdigit() else None)
    parser.add_argument("--path", default="/readyz")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS")
    arguments = parser.parse_args(argv)
    if arguments.port is None:
        parser.error("which port? Give --port, or set BROKER_INTERNAL_PORT")
    connection = http.client.HTTPConnection(arguments.host, arguments.port, timeout=arguments.timeout)
    try:
        connection.request("GET", arguments.path)
        response = connection.getresponse()
        print(response.read(MOST_BYTES).decode(errors="replace").strip())
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer on {arguments.host} port {arguments.port}: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    return 0 if response.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
