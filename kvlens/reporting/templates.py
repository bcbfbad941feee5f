"""Templates: the pages as Jinja sees them, where every word is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


def page_template(name: str) -> Template:
    """A page without its values; names, data and tokens that it is given are no markup.

    Args:
        name: the file in this room, such as ``report.html``.

    Returns:
        A template that refuses values it was not given.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("kvlens.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
