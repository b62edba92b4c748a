"""The commands of the command line; older ones are in tests/test_cli.py."""
