"""The temperature of a run's probabilities, in its folder."""

from dataclasses import asdict, fields

from polyprompt.errors import StoreError
from polyprompt.experiments.store import RunFolder
from polyprompt.scoring.calibration import Calibration
from polyprompt.tables import read_json, write_json

CALIBRATION = "calibration.json"


def write_calibration(run: RunFolder, found: Calibration) -> None:
    """Write the temperature of a run's probabilities, and how it was found."""
    write_json(run.path / CALIBRATION, asdict(found))


def calibration_of(run: RunFolder) -> Calibration | None:
    """Read the temperature of a run's probabilities; None where none was looked for.

    Raises:
        StoreError: The file is damaged.
    """
    path = run.path / CALIBRATION
    if not path.is_file():
        return None
    value = read_json(path)
    keys = {field.name for field in fields(Calibration)}
    whole = isinstance(value, dict) and set(value) == keys
    if not whole or not isinstance(value["temperature"], float) or value["temperature"] <= 0:
        raise StoreError(f"{path} is damaged. Delete it, and calibrate the run again.")
    return Calibration(**value)
