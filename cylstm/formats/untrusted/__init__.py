"""Reading what may be damaged or hostile."""
