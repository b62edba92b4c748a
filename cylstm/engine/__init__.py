"""The compiled engine, and what it finds on the machine: threads, a BLAS, instruction sets."""
