"""Configurations of the differential matrix: the default, each option by itself, and each pair of options."""

import itertools
import zlib


def configurations(options):
    """Every configuration in which at most two options differ from their defaults.

    Parameters
    ----------
    options : dict of str to list
        Name -> values, the default first.

    Returns
    -------
    list of dict
        Each with every option.
    """
    default = {name: values[0] for name, values in options.items()}
    changes = [(name, value) for name, values in options.items() for value in values[1:]]
    found = [default]
    found += [default | {name: value} for name, value in changes]
    found += [default | dict(pair) for pair in itertools.combinations(changes, 2) if pair[0][0] != pair[1][0]]
    return found


def label(configuration, options):
    """A short name: the options that differ from their defaults."""
    parts = [f"{name}={value}" for name, value in configuration.items() if value != options[name][0]]
    return " ".join(parts) or "default"


def seed(*parts):
    """A seed that depends on the text of `parts` alone."""
    return zlib.crc32(repr(parts).encode())
