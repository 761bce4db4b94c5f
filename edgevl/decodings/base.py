"""What the kinds of decoding share: their declared fields, decisions with margins, and comparing results."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from pydantic import Field, ValidationError

from edgevl.bundle.fields import Part
from edgevl.bundle.specs import OutputSpec
from edgevl.contracts import Answer, Described, Query
from edgevl.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

F = TypeVar("F", bound=Part)
Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Activation = Literal["softmax", "sigmoid"]  # how scores become shares


class Declared(Generic[F]):
    """A decoding with the fields that it declares as a pydantic model: what is unknown or missing is refused."""

    kind: ClassVar[str]
    sequential: ClassVar[bool] = False
    stored: ClassVar[int | None] = None
    Fields: type[F]

    def __init__(self, model: Described):
        self.model = model
        try:
            self.fields: F = self.Fields.model_validate(dict(model.decoding))
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, problem["loc"])) or "the whole"
            raise InputError(f"the decoding {self.kind} is not valid: {where}: {problem['msg']}") from None

    def apart(self, query: Query) -> list[Query]:
        return one_text_each([query])


def row_problems(outputs: Mapping[str, OutputSpec], name: str, sides: int, width: int | None = None) -> list[str]:
    """Say what is wrong with an output that must be float [B, ...] of so many sides, the last one `width` if given."""
    spec = outputs.get(name)
    if spec is None:
        return [f"the decoding reads the value {name}, which no program gives"]
    wrong = len(spec.shape) != sides or (width is not None and spec.shape[-1] != width)
    if wrong or not spec.dtype.startswith("float"):
        shape = ", ".join(["B"] + ["N"] * (sides - 2) + [str(width) if width is not None else "N"])
        return [f"the decoding reads {name} as float [{shape}], it is {spec.dtype} {list(spec.shape)}"]
    return []


def one_text_each(queries: Sequence[Query]) -> list[Query]:
    """Split queries into one for each text; a query without texts stays as it is."""
    return [part for query in queries for part in ([Query(query.pictures, (text,)) for text in query.texts] or [query])]


def regroup(rows: Sequence[np.ndarray], queries: Sequence[Query]) -> list[np.ndarray]:
    """Stack the rows of `one_text_each` for each query again."""
    stacked, start = [], 0
    for query in queries:
        count = max(1, len(query.texts))
        stacked.append(np.stack(rows[start : start + count]))
        start += count
    return stacked


def margins_of(scores_NA: np.ndarray) -> tuple[float, ...]:
    """Return by how much the best score of each row leads; nothing where there is one score only."""
    if scores_NA.shape[1] < 2:
        return ()
    ordered = np.sort(scores_NA.astype(np.float64), axis=1)
    return tuple((ordered[:, -1] - ordered[:, -2]).tolist())


def same_decisions(own: Answer[Any], reference: Answer[Any], tolerance: Mapping[str, float]) -> bool:
    """Say if results are equal wherever the reference's decision was clear: by more than twice the tolerance."""
    if len(own.result) != len(reference.result):
        return False
    least = 2 * max(tolerance.values())
    clear = [margin > least for margin in reference.margins] or [True] * len(reference.result)
    return all(a == b for a, b, is_clear in zip(own.result, reference.result, clear) if is_clear)


def share_of_equal(own: Sequence[Answer[Any]], reference: Sequence[Answer[Any]]) -> float:
    """Return the share of equal decisions of all answers."""
    pairs = [(a, b) for one, other in zip(own, reference) for a, b in zip(one.result, other.result)]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else 1.0


def best(labels: Sequence[str], shares: np.ndarray, top: int) -> list[tuple[str, float]]:
    """Return (label, share) of the `top` largest shares; of equal ones the first."""
    order = np.argsort(-shares, kind="stable")[:top]
    return [(str(labels[index]), float(shares[index])) for index in order.tolist()]


def to_shares(scores: np.ndarray, activation: Activation) -> np.ndarray:
    """Return float64 shares of scores [..., A]: softmax over the last side, or the sigmoid of each."""
    scores = scores.astype(np.float64)
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-scores.clip(-500, 500)))
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def kl_divergence(own: "Tensor", reference: "Tensor") -> "Tensor":
    """Return the mean over rows of the KL divergence of softmax distributions in nats; `own` takes gradients."""
    from torch.nn import functional as F

    rows = own.shape[-1]
    return F.kl_div(
        own.reshape(-1, rows).log_softmax(-1),
        reference.reshape(-1, rows).log_softmax(-1),
        log_target=True,
        reduction="batchmean",
    )
