"""The native ``.cylstm`` file."""
