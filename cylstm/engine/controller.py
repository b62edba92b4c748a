"""CyLSTM for threadpoolctl: what its limits and its listing of thread pools see of this package."""

from __future__ import annotations

import threadpoolctl

from cylstm._version import __version__
from cylstm.engine import threads


class CylstmController(threadpoolctl.LibController):
    user_api = "cylstm"
    internal_api = "cylstm"
    filename_prefixes = ("_engine",)
    check_symbols = ("cyl_threads_name",)

    def get_num_threads(self) -> int:
        return threads.available_threads()

    def set_num_threads(self, num_threads: int) -> None:
        threads.set_limit(int(num_threads))

    def get_version(self) -> str:
        return __version__

    def set_additional_attributes(self) -> None:
        pass
