import numpy as np
import pytest

from edgevl.errors import InputError
from edgevl.tokenizer import Tokenizer


@pytest.fixture
def tokenizer():
    return Tokenizer.from_words(["what", "color", "is", "the", "car"])


def test_encode_frames_and_pads(tokenizer):
    ids = tokenizer.encode("What COLOR is the car?", 12)
    assert ids.dtype == np.int32 and ids.shape == (12,)
    assert ids[0] == tokenizer.cls_id and ids[7] == tokenizer.sep_id and (ids[8:] == 0).all()


def test_unknown_words_fall_apart_into_letters_never_unknown(tokenizer):
    assert tokenizer.unk_id not in tokenizer.pieces("zebra") and len(tokenizer.pieces("zebra")) == 5


def test_emoji_and_other_scripts_become_unknown(tokenizer):
    assert tokenizer.unk_id in tokenizer.pieces("what is the 車")


def test_too_long_text_keeps_its_separator(tokenizer):
    ids = tokenizer.encode("the car " * 100, 8)
    assert ids[-1] == tokenizer.sep_id and tokenizer.is_truncated("the car " * 100, 8)


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_empty_text_is_refused(tokenizer, text):
    with pytest.raises(InputError, match="empty"):
        tokenizer.encode(text, 8)


def test_file_round_trip_and_bad_files(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.from_file(tmp_path / "tokenizer.json")
    assert (again.encode("the car", 8) == tokenizer.encode("the car", 8)).all()
    (tmp_path / "bad.json").write_text("{}")
    for name in ("bad.json", "missing.json"):
        with pytest.raises(InputError):
            Tokenizer.from_file(tmp_path / name)
