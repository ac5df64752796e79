"""What a day's run of `<model>/batch_predictions` scores, and where its result goes."""

from dataclasses import dataclass

from deploy.home import Home
from orchestration.batch.drop import input_folder
from serving_config.schema import Model


@dataclass(frozen=True)
class Places:
    """Paths or fsspec URLs."""

    input: str
    output: str


def day_places(home: Home, model: Model, day: str, *, dropped: bool = False) -> Places:
    """day: YYYY-MM-DD. dropped: of files from the drop folder, which go to the home's own folders;
    beside the day's other result, where its input is configured to be elsewhere."""
    settings = model.batch
    own_input = str(input_folder(home, model.name, day))
    if dropped and settings.input is not None:
        return Places(own_input, str(home.batch / model.name / "dropped" / f"day={day}"))
    folder = str(home.batch / model.name / "predictions" / "day={day}")
    return Places(
        own_input if settings.input is None else settings.input.replace("{day}", day),
        (settings.output or folder).replace("{day}", day),
    )
