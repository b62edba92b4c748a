"""The commands, one in each file: a new one is a file here and a line in `COMMANDS`."""

from cylstm.cli.commands import bench, config, convert, explain, forecast, predict, quantize, summary, verify

#: in the order in which ``--help`` shows them
COMMANDS = (
    config.COMMAND,
    bench.COMMAND,
    summary.COMMAND,
    convert.COMMAND,
    quantize.COMMAND,
    verify.COMMAND,
    predict.COMMAND,
    forecast.COMMAND,
    explain.COMMAND,
)
