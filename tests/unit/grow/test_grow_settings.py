"""The settings file gets the new URL and keeps everything else, or is left alone."""

from __future__ import annotations

import tomllib

import pytest

from tenfold.cli.grow_settings import with_url
from tenfold.errors import ConfigError

URL = 'postgresql://shop:p"w@db/shop'


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[app]\nenv = "production"  # kept\n',
        "[database]\nreaders = 2\n\n[http]\nport = 1\n",
        '[database] # ours\nurl = "sqlite:///app.db"\nreaders = 2\n',
        '# top\n[http]\nport = 1\n[database]\n  url="sqlite:///app.db"\n[cache]\nurl = "memory:"\n',
    ],
)
def test_the_url_is_put_in_place_and_the_rest_is_kept(text: str) -> None:
    made = with_url(text, URL, where="tenfold.toml")
    wanted = tomllib.loads(text)
    wanted.setdefault("database", {})["url"] = URL
    assert tomllib.loads(made) == wanted
    assert all(line in made for line in text.splitlines() if "url" not in line)


@pytest.mark.parametrize(
    "text", ['database.url = "sqlite:///app.db"\n', 'database = { url = "sqlite:///a.db" }\n']
)
def test_what_is_written_in_another_way_is_left_alone(text: str) -> None:
    with pytest.raises(ConfigError, match="by hand"):
        with_url(text, URL, where="tenfold.toml")
