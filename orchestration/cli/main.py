"""The command's entry: every failure is one line on stderr and a non-zero exit."""

import os
import sys

import click

from orchestration.cli import (
    batch,
    compare,
    demo,
    drift,
    features,
    images,
    keys,
    ledger,
    load_test,
    models,
    platform,
    predictions,
    receipts,
    release,
    run,
    status,
    traffic,
)

# What the libraries would print into our output, or send elsewhere.
_QUIET = {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="slipway")
def cli() -> None:
    """Take model versions from MLflow to production, and see what runs there."""


cli.add_command(platform.up)
cli.add_command(platform.down)
cli.add_command(run.run)
cli.add_command(status.status)
cli.add_command(models.train)
cli.add_command(models.verify)
cli.add_command(compare.compare)
cli.add_command(release.release)
cli.add_command(release.promote)
cli.add_command(traffic.split)
cli.add_command(traffic.rollback)
cli.add_command(traffic.load)
cli.add_command(traffic.retire)
cli.add_command(features.materialize)
cli.add_command(features.features)
cli.add_command(ledger.ledger)
cli.add_command(receipts.explain_request)
cli.add_command(predictions.predictions)
cli.add_command(predictions.labels)
cli.add_command(predictions.compact_now)
cli.add_command(batch.batch_predict)
cli.add_command(keys.keys)
cli.add_command(drift.drift)
cli.add_command(demo.demo)
cli.add_command(load_test.load_test)
cli.add_command(images.build_images)


def main() -> None:
    """Run the command. SLIPWAY_DEBUG=1 shows the traceback of a failure."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        # In this mode click returns a command's exit code where it would exit.
        sys.exit(cli(standalone_mode=False))
    except click.ClickException as error:
        _fail(error.format_message(), code=2)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", code=130)
    except Exception as error:  # whatever it is, a user gets a sentence
        if os.environ.get("SLIPWAY_DEBUG"):
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        _fail(text if _explained(error) else f"{type(error).__name__}: {text}", code=1)


def _explained(error: Exception) -> bool:
    """Our own errors say what to do; others at least say what they are."""
    return type(error).__module__.split(".")[0] in {
        "bentos",
        "deploy",
        "orchestration",
        "serving_config",
    }


def _fail(text: str, code: int) -> None:
    click.echo(f"slipway: {text}", err=True)
    sys.exit(code)
