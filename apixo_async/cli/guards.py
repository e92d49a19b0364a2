"""Options that bound or allow spending, and the value that carries them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import attrs
import click

from apixo_async.cli.options import NONE, WholeNumber, gathered
from apixo_async.errors import InvalidSettingError

if TYPE_CHECKING:
    from apixo_async.batch.spending import Prices  # noqa: TC004  # attrs keeps only its name


def _read_prices(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> Prices | None:
    if ctx.resilient_parsing:
        return None  # somebody completes a line, and does not wait for what reads it
    from apixo_async.batch.spending import parse_prices

    try:
        return parse_prices(values)
    except InvalidSettingError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def _read_money(ctx: click.Context, param: click.Parameter, value: str | None) -> Decimal | None:
    if value is None or ctx.resilient_parsing:
        return None
    from apixo_async.batch.spending import usd

    try:
        return usd(value, name="it")
    except InvalidSettingError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def _read_cap(ctx: click.Context, param: click.Parameter, value: str | None) -> Decimal | None:
    return Decimal("Infinity") if value == NONE else _read_money(ctx, param, value)


def _read_retry_codes(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...] | None:
    """The codes; empty for `none`, and `None` where nothing was said."""
    if values == (NONE,):
        return ()
    if ctx.resilient_parsing:
        return None
    for code in values:
        if why := _why_not_again(code):
            raise click.BadParameter(why, ctx, param)
    return values or None


def _why_not_again(code: str) -> str | None:
    """Why no task is generated again that failed with this code; `None` if it may be."""
    from apixo_async._wire import task_failure
    from apixo_async.errors import ContentViolationError
    from apixo_async.tasks import Task, TaskState

    if not code.strip():
        return "it must be the code of a failed task, such as GENERATION_FAILED; it is empty"
    if code == NONE:
        return f"{NONE!r} stands for no code at all, so it cannot be beside others"
    failed = Task(id=code, model="", state=TaskState.FAILED, fail_code=code)
    if isinstance(task_failure(failed), ContentViolationError):
        return (
            f"{code!r} is a content violation, which is never generated again: the same prompt "
            "would be refused again, and perhaps be paid for again; change the prompt"
        )
    return None


price = click.option(
    "--price",
    "prices",
    multiple=True,
    metavar="NAME=USD",
    callback=_read_prices,
    help="What one video costs, by mode or model, such as fast=0.20; repeatable.",
)
"""Gives the command `prices`, a `Prices`."""
max_cost = click.option(
    "--max-cost",
    metavar="USD",
    callback=_read_money,
    help="The most that all videos together may cost; needs prices.",
)
"""Gives the command `max_cost`, a `Decimal`, or `None` for no cap."""
cap = click.option(
    "--max-cost",
    metavar="USD",
    callback=_read_cap,
    help="The most that all videos together may cost; needs prices; none lifts a noted cap.",
)
"""As `max_cost`, and infinite where a cap that was noted is lifted."""
uncertain = click.option(
    "--uncertain",
    type=click.Choice(["keep", "resubmit"]),
    help="What becomes of submits whose answer was lost: keep states them (the default), "
    "resubmit sends them again and may pay twice.",
)
retry_code = click.option(
    "--retry-code",
    "retry_codes",
    multiple=True,
    metavar="FAILCODE",
    callback=_read_retry_codes,
    help="Generate, and pay for, a task again that failed with this code; repeatable; none "
    "forgets those that were noted.",
)
retries = click.option(
    "--retries",
    type=WholeNumber(min=1),
    metavar="N",
    help="How often, for one job.  [default: 1]",
)


@attrs.frozen(kw_only=True)
class Guards:
    """What bounds or allows spending; `None` and no prices where nothing was said."""

    prices: Prices
    max_cost: Decimal | None
    uncertain: Literal["keep", "resubmit"] | None
    retry_codes: tuple[str, ...] | None
    retries: int | None


guards = gathered("guards", Guards, (cap, price, uncertain, retry_code, retries))
"""Gives the command `guards`, a `Guards`."""
