"""How torch's threads wait for each other on a machine that has other work to do."""

import os


def wait_passively() -> None:
    """Let threads that wait for others sleep instead of spin; call it before torch is imported.

    OpenMP's threads spin between two pieces of work. Where something else wants the same cores, the spinning threads
    take the time that the slowest one needs (docs/decisions/0005-threads-wait-passively.md has figures). A value of
    OMP_WAIT_POLICY that is set already is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
