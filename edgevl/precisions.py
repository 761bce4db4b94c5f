"""The precisions: one record for each, with everything that depends on it. A precision is one word of a manifest."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

FULL = 1000  # samples that the limits of accuracy are meant for
MIN_FLOAT_MACS = 0.9  # share of the multiply-adds that fp32 and fp16 do in what they claim
MIN_INT8_MACS = 0.8  # share of the multiply-adds that w8a8 does in int8
MAX_INT8_MACS = 0.2  # of w8 and w4, which claim integer weights and float arithmetic


@dataclass(frozen=True)
class Thresholds:
    """What an artifact of one precision must reach against the float PyTorch program.

    Counts of answers are judged as what they are, draws: see `different` and `drift`.
    """

    snr_db: float  # of each output, around the reference's mean: a file that always gives that mean has 0
    top1_agreement: float  # expected share of equal decisions
    accuracy: float  # largest difference, as a share

    def different(self, samples: int) -> float:
        """How many best answers may differ: the expected number and two standard deviations, at least one."""
        expected = (1 - self.top1_agreement) * samples
        return max(1.0, expected + 2 * math.sqrt(expected))

    def drift(self, samples: int) -> float:
        """By how much the accuracy may differ: with fewer than `FULL` samples, by as many answers as with that many."""
        return max(self.accuracy, self.accuracy * FULL / samples, 1 / samples)


@dataclass(frozen=True)
class Arithmetic:
    """The share of the multiply-adds that a precision does in `dtype`."""

    dtype: str
    least: float = 0.0
    most: float = 1.0


@dataclass(frozen=True)
class Precision:
    """What a precision claims, how near it must come to the float program, and what others call it."""

    thresholds: Thresholds
    # Largest difference of a golden value, as a share of the largest. Measured on nano and on the random model of the
    # tests: fp16 up to 0.0008, w8 0.012, w4 0.07 by blocks and 0.17 by palette (ONNX Runtime, Core ML's reference
    # executor), w8a8 up to 0.023 over all targets. A phone's half precision sums less exactly, hence the room. A scale
    # of one tensor that is 1.5 times too large makes 0.1 to 0.5.
    golden: float
    arithmetic: Arithmetic
    untrained_psnr_db: float  # least of the values of a model with random weights
    words: tuple[str, ...]  # without blanks, dashes and capitals
    float: str = ""  # dtype of its weights
    bits: tuple[int, int] | None = None  # fewest and most of its integer weights


PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision(
        Thresholds(snr_db=45, top1_agreement=0.9995, accuracy=0.001), 1e-3,
        Arithmetic("float32", least=MIN_FLOAT_MACS), 60.0,
        ("float32", "float", "f32", "full", "single", "32", "32bit", "fp"), float="float32",
    ),
    "fp16": Precision(
        Thresholds(snr_db=25, top1_agreement=0.995, accuracy=0.002), 2e-2,
        Arithmetic("float16", least=MIN_FLOAT_MACS), 40.0,
        ("float16", "f16", "half", "16", "16bit", "bf16", "bfloat16"), float="float16",
    ),
    "w8": Precision(
        Thresholds(snr_db=14, top1_agreement=0.98, accuracy=0.003), 0.05,
        Arithmetic("int8", most=MAX_INT8_MACS), 30.0,
        ("w8a16", "w8a32", "weightonly", "weightsonly", "int8weights"), bits=(5, 8),
    ),
    "w4": Precision(
        Thresholds(snr_db=7, top1_agreement=0.93, accuracy=0.01), 0.3,
        Arithmetic("int8", most=MAX_INT8_MACS), 23.0,
        ("int4", "i4", "4", "4bit", "uint4", "q4", "w4a16", "w4a32", "nf4", "fp4", "int4weights"), bits=(1, 4),
    ),
    "w8a8": Precision(  # "int8" is what most people mean by it
        Thresholds(snr_db=12, top1_agreement=0.97, accuracy=0.005), 0.1,
        Arithmetic("int8", least=MIN_INT8_MACS), 30.0,
        ("int8", "i8", "8", "8bit", "uint8", "q8", "a8w8", "int8int8", "quantized", "qat", "ptq", "fp8", "float8"),
        bits=(5, 8),
    ),
}  # fmt: skip
