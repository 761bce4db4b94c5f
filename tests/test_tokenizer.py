import json

import numpy as np
import pytest

from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer


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
    (tmp_path / "bad.json").write_text("{}", encoding="utf-8")
    for name in ("bad.json", "missing.json"):
        with pytest.raises(InputError):
            Tokenizer.from_file(tmp_path / name)


def test_half_a_surrogate_pair_is_refused(tokenizer):
    with pytest.raises(InputError, match="UTF-8"):
        tokenizer.encode("what\udcff", 8)


def test_the_file_of_the_embedded_model_is_what_is_written(tmp_path):
    from edgevl.models.checkpoint import EMBEDDED

    Tokenizer.from_file(EMBEDDED / "tokenizer.json").save(tmp_path / "t.json")
    assert (tmp_path / "t.json").read_bytes() == (EMBEDDED / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    "change,word",
    [
        (lambda t: t["normalizer"].update(lowercase=False), "normalizer is"),
        (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer is"),
        (lambda t: t["model"].update(type="BPE"), r"model\.type is"),
        (lambda t: t["model"].update(max_input_chars_per_word=99), "it must be 100"),
        (lambda t: t["model"]["vocab"].update(what=2**32), "each once"),
        (lambda t: t["model"]["vocab"].update(what=t["model"]["vocab"]["the"]), "each once"),
        (lambda t: t["model"].update(vocab={}), "pieces"),
        (lambda t: t.update(surprise=1), "surprise"),
        (lambda t: t.pop("padding"), "padding is missing"),
    ],
)
def test_other_settings_are_refused(tokenizer, tmp_path, change, word):
    tokenizer.save(tmp_path / "tokenizer.json")
    values = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    change(values)
    (tmp_path / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(InputError, match=word):
        Tokenizer.from_file(tmp_path / "tokenizer.json")
