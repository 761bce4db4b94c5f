"""Text processings: a tokenizer with the length, start, stop and padding that a manifest declares."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgevl.bundle.specs import TextProcessing
from edgevl.contracts import TextCodec
from edgevl.errors import EdgeVLError, InputError, VerificationFailed, first_line
from edgevl.inputs.tokenizer import Tokenizer


@dataclass(frozen=True)
class WordPiece:
    """BERT's pieces between [CLS] and [SEP]."""

    tokenizer: Tokenizer
    spec: TextProcessing

    @classmethod
    def of(cls, tokenizer: Tokenizer, length: int, file: str = "tokenizer.json") -> "WordPiece":
        """Declare a tokenizer with T = `length`."""
        spec = TextProcessing(
            kind="wordpiece",
            file=file,
            length=length,
            vocab_size=tokenizer.vocab_size,
            pad_id=tokenizer.pad_id,
            start_id=tokenizer.cls_id,
            stop_id=tokenizer.sep_id,
        )
        return cls(tokenizer, spec)

    def encode(self, text: str) -> np.ndarray:
        """Return int32 ids [T]. Raises `InputError` for a text without a piece."""
        return self.tokenizer.encode(text, self.spec.length)

    def mask(self, text: str) -> np.ndarray:
        """Return int32 [T]: 1 for a token, 0 for padding, which no piece of a text is."""
        return (self.encode(text) != self.spec.pad_id).astype(np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        """Return words separated by blanks; special tokens are left out."""
        special = {self.spec.pad_id, self.spec.start_id, self.spec.stop_id}
        pieces = (self.tokenizer.backend.id_to_token(int(index)) for index in ids if int(index) not in special)
        return " ".join(piece for piece in pieces if piece is not None).replace(" ##", "")

    def is_truncated(self, text: str) -> bool:
        return self.tokenizer.is_truncated(text, self.spec.length)

    def unknown_words(self, text: str, characters: str | None = None) -> list[str]:
        return self.tokenizer.unknown_words(text, characters)

    def to_text(self) -> str:
        return self.tokenizer.backend.to_str(pretty=True)


def codec_of(spec: TextProcessing, file: Path) -> TextCodec:
    """Open the tokenizer that a manifest declares.

    Raises `VerificationFailed` for a file that is damaged, or is not what the manifest says.
    """
    kinds = {"wordpiece": _open_wordpiece, "byte-bpe": _open_byte_bpe}
    if spec.kind not in kinds:
        raise VerificationFailed(f'the text processing "{spec.kind}" is not known to this edgevl')
    try:
        codec = kinds[spec.kind](spec, file)
    except EdgeVLError as error:
        raise VerificationFailed(f"{spec.file}: {error}") from None
    except Exception as error:  # tokenizers has no exceptions of its own
        raise VerificationFailed(f"{spec.file} cannot be read as a tokenizer ({first_line(error)})") from None
    return codec


def _open_wordpiece(spec: TextProcessing, file: Path) -> WordPiece:
    codec = WordPiece.of(Tokenizer.from_file(file), spec.length, spec.file)
    for name in ("vocab_size", "pad_id", "start_id", "stop_id", "empty"):
        own, said = getattr(codec.spec, name), getattr(spec, name)
        if own != said:
            raise InputError(f"{name} is {own}, the manifest says {said}")
    return codec


def _open_byte_bpe(spec: TextProcessing, file: Path) -> TextCodec:
    from edgevl.inputs.byte_bpe import ByteBPE

    return ByteBPE.declared(file, spec)
