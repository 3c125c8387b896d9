"""What tests of whole studies share."""

FILES = ("predictions.parquet", "scores.parquet", "steps.jsonl")


def left(folders):
    """The bytes of everything that runs leave behind."""
    found = {}
    for folder in folders:
        files = [folder.path / name for name in FILES]
        files += sorted(folder.path.glob("parts/*")) + sorted(folder.path.glob("recorded/*"))
        found |= {f"{folder.name}/{path.name}": path.read_bytes() for path in files}
    return found
