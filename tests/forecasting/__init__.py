"""Forecasters: scaling, network and loop in one file."""
