"""Addresses (URLs) with secrets in them: users, passwords, and the tokens and signatures of a query."""

import re
from typing import Any

HIDDEN = "***"
# \b keeps a long word from being searched from each of its letters.
# user:password@, also where the password has an @, or a / that should have been written %2F
USERS = (re.compile(r"\b(\w+://)[^/\s]*@"), re.compile(r"\b(\w+://)(?=[^/\s]*:(?!\d+(?:/|\s|$)))\S*@"))
QUERY = re.compile(r"\b(\w+://[^\s?#]*)[?#]\S*?([\]),;:.'\"]*)(?=\s|$)")


def without_secrets(text: str) -> str:
    """The text with user, password and query taken out of every address."""
    return QUERY.sub(lambda found: f"{found[1]}?{HIDDEN}{found[2]}", without_users(text))


def without_users(value: Any) -> Any:
    """The text, or the texts of a list, with user and password taken out of every address."""
    if isinstance(value, list):
        return [without_users(item) for item in value]
    if not isinstance(value, str):
        return value
    for pattern in USERS:
        value = pattern.sub(rf"\1{HIDDEN}@", value)
    return value
