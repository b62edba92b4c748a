import os


def memory_folder() -> str | None:
    """Where files go that are read at once: what TMPDIR says, else memory where that is a folder."""
    return os.environ.get("TMPDIR") or ("/dev/shm" if os.path.isdir("/dev/shm") else None)
