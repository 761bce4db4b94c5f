"""`statement`: is a sentence true of a picture, or of two?"""

from edgevl.contracts import Query, Record, Sample
from edgevl.tasks import TASKS
from edgevl.tasks.vqa import Vqa

TRUE, FALSE = "yes", "no"  # labels


@TASKS.register("statement")
class Statement(Vqa):
    """A target holds `yes` or `no`. Its metric is `accuracy`."""

    name = "statement"
    aliases = ("visual-entailment",)
    decodings = ("classify",)

    def samples(self, record: Record, count: int | None = None) -> list[Sample]:
        """Return one for each statement."""
        return [
            Sample(Query(record.pictures, (each.text,)), (TRUE if each.label else FALSE,), self.name, record.key)
            for each in (record.statements or ())[:count]
        ]
