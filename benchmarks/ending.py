"""How a benchmark's command ends: one line and an exit code for whatever goes wrong, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from service.model.errors import InputError, XalError


def exit_code(command: Callable[[], None], *, kept: str = "what was measured is kept") -> int:
    """Run it; 0 done, 1 failure, 2 wrong input, 130 interrupted. kept: what becomes of a run that is stopped."""
    try:
        command()
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except XalError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or 'files'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; {kept}", file=sys.stderr)
        return 130
    return 0
