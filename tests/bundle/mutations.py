"""All of the damage, in one list."""

from mutation_base import Mutation
from mutations_files import broken_artifacts, file_system, pictures
from mutations_json import manifests, other_files
from mutations_paths import lies, paths


def all_mutations() -> list[Mutation]:
    """The same list every time."""
    found = [
        *manifests(),
        *paths(),
        *file_system(),
        *other_files(),
        *pictures(),
        *broken_artifacts(),
        *lies(),
    ]
    names = [mutation.name for mutation in found]
    assert len(set(names)) == len(names), "every mutation is a different one"
    return found
