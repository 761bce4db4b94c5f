"""The process in which `limited` calls a function: see `edgevl.guard.fresh`."""

import pickle
import sys
from collections.abc import Sequence
from pathlib import Path

from edgevl.guard.children import be_limited
from edgevl.guard.fresh import ANSWER, ASKED


def main(arguments: Sequence[str]) -> int:
    be_limited()
    folder = Path(arguments[0])
    try:
        function, arguments, named = pickle.loads((folder / ASKED).read_bytes())
        answer = (True, function(*arguments, **named))
        data = pickle.dumps(answer)
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        data = pickle.dumps((False, (type(error), str(error), _pickled(error))))
    (folder / ANSWER).write_bytes(data)
    return 0


def _pickled(error: BaseException) -> bytes | None:
    """None where loading it again fails, as it does where a constructor takes more than the message."""
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
        return data
    except Exception:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
