"""Numbers that were chosen by measuring, on the Python side; those of C stand in ``csrc/platform/tuning.h``."""

#: Multiply-adds that take about 20 us on one thread of a server. A call of more releases the GIL; a shorter one keeps
#: it: beside one busy Python thread, releasing it made the 99th percentile of a step's time 5 ms, keeping it 0.4 us.
GIL_WORK = 1e6

#: Multiply-adds of a call, about as long, below which waking sleeping threads costs more than they bring.
THREADS_WORK = 1e6
