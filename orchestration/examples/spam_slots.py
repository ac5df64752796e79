# ruff: noqa: SIM905 - a line of words is read more easily than a list with a word a line
"""What the invented e-mails are filled with: names, places, amounts, dates, links.

The same pools for ham and for spam, so that no name, sum or link gives a label away.
"""

import random
import re
from collections.abc import Callable

NAMES = (
    "Anna Ben Chloé Deniz Elif Émilie François Giulia Håkon Inés João Jürgen Katarzyna Łukasz "
    "Lucía Marta Michał Nicolò Noah Olivia Paweł Şebnem Søren Tomás Ümit Zoë"
).split()
CITIES = "Berlin Lyon Málaga Bologna Coimbra Kraków İzmir Dublin Zürich Genève Porto Leeds".split()
PRODUCTS = "Vitalix SlimFit KetoMax ProViril Relaxan NutraBurn Detoxin GoldWear".split()
HOSTS = (
    "portal.example.com mail.example.org login-check.example.net library.example.org "
    "shop24.example.com secure-update.example.net go.example.org"
).split()


def fill(template: str, rng: random.Random) -> str:
    """The template with a random value for each `{slot}`."""
    return re.sub(r"\{(\w+)\}", lambda slot: SLOTS[slot[1]](rng), template)


def _amount(rng: random.Random) -> str:
    value = rng.choice((rng.randint(3, 99), rng.randint(100, 5000), rng.randint(1, 90) * 1000))
    form = rng.choice(("{:,} €", "€{:,}", "${:,}", "{:,}.00 EUR", "£{:,}", "{:,} USD", "CHF {:,}"))
    return form.format(value)


def _date(rng: random.Random) -> str:
    day, month = rng.randint(1, 28), rng.randint(1, 12)
    return rng.choice((f"{day}.{month}.", f"{day}/{month}/2025", f"2025-{month:02}-{day:02}"))


def url(rng: random.Random) -> str:
    """A link on a reserved example domain."""
    scheme = rng.choice(("https://", "http://", "www."))
    return f"{scheme}{rng.choice(HOSTS)}/{rng.choice('abcdefxyz')}{rng.randint(10, 99999)}"


SLOTS: dict[str, Callable[[random.Random], str]] = {
    "amount": _amount,
    "city": lambda rng: rng.choice(CITIES),
    "date": _date,
    "name": lambda rng: rng.choice(NAMES),
    "number": lambda rng: str(rng.randint(3, 400)),
    "percent": lambda rng: f"{rng.randint(2, 19) * 5}%",
    "phone": lambda rng: (
        f"+{rng.randint(30, 99)} {rng.randint(100, 999)} {rng.randint(10**5, 10**6)}"
    ),
    "product": lambda rng: rng.choice(PRODUCTS),
    "time": lambda rng: f"{rng.randint(7, 20)}:{rng.choice(('00', '15', '30', '45'))}",
    "url": url,
}
