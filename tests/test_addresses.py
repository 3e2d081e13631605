"""No secret of an address is shown."""

import pytest

from src.addresses import without_secrets, without_users

SHOWN = {
    "a https://u:p@h/x b": "a https://***@h/x b",
    "https://token@h/x": "https://***@h/x",
    "https://u:p@ss@h/x": "https://***@h/x",
    "https://u:p/w@h/x": "https://***@h/x",
    "http://h:8080/a@b": "http://h:8080/a@b",
    "https://h/x?token=secret&b=c": "https://h/x?***",
    "https://u:p@h/x?X-Amz-Signature=secret#part": "https://***@h/x?***",
    "data.mirrors=[https://h/?sig=secret]": "data.mirrors=[https://h/?***]",
    "https://h/?sig=secret: refused; https://h/y": "https://h/?***: refused; https://h/y",
    "no address?": "no address?",
    "s3://key:secret@bucket/x": "s3://***@bucket/x",
}


@pytest.mark.parametrize(("text", "shown"), SHOWN.items())
def test_what_is_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert without_secrets(shown) == shown


def test_a_list_of_texts() -> None:
    assert without_users(["http://u:p@h", "a"]) == ["http://***@h", "a"]
    assert without_users(3) == 3
    assert without_users("http://h/?a=b") == "http://h/?a=b"


def test_a_word_of_a_megabyte_is_no_address() -> None:
    text = "x" * 1_000_000  # from each letter anew it would take hours
    assert without_secrets(f"{text} ftp://me:word@host/") == f"{text} ftp://***@host/"
