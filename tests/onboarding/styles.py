"""Log lines in many styles, all of one shop: orders that are placed, paid, sometimes refused, interleaved as requests are."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

BEGIN = datetime(2026, 3, 4, 9, 0, 0, tzinfo=UTC)
TRACE = [
    "java.net.SocketTimeoutException: Read timed out",
    "\tat java.base/sun.nio.ch.NioSocketImpl.timedRead(NioSocketImpl.java:283)",
    "\tat com.acme.pay.Client.charge(Client.java:42)",
    "Caused by: java.io.IOException: broken pipe",
    "\t... 23 more",
]
TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "/srv/shop/pay.py", line 42, in charge',
    "    raise TimeoutError(order)",
    "",
    "TimeoutError: the provider did not answer",
]


@dataclass(frozen=True)
class Step:
    """Something that happens to an order."""

    at: datetime
    order: str
    number: int
    level: str
    text: str
    source: str
    failed: bool


def steps(n_orders: int = 150, seed: int = 1) -> list[Step]:
    """What happens to the orders, in order of time."""
    rng = random.Random(seed)
    found = []
    for number in range(n_orders):
        at = BEGIN + timedelta(seconds=number * 40 + rng.random() * 30, microseconds=rng.randrange(10**6))
        order = f"{rng.getrandbits(64):016x}"
        failed = rng.random() < 0.1
        story = [("INFO", f"order received from 10.0.{number % 4}.{rng.randrange(250)}", "web"), ("INFO", "stock reserved", "stock")]
        story += [("DEBUG", f"payment attempt {n} of 3", "pay") for n in range(1, rng.choice([2, 2, 3]))]
        story += [("ERROR", f"payment failed after {rng.randrange(900)} ms", "pay")] if failed else []
        story += [("WARN", "stock released", "stock")] if failed else [("INFO", f"order shipped in {rng.randrange(9)} parcels", "ship")]
        for level, text, source in story:
            found.append(Step(at, order, number, level, text, source, text.startswith("payment failed")))
            at += timedelta(milliseconds=rng.randrange(5, 60_000))
    return sorted(found, key=lambda step: step.at)


def stamp(step: Step, form: str, digits: int = 3) -> str:
    """The step's time; %f has as many digits as are asked for."""
    return step.at.strftime(form.replace("%f", f"{step.at.microsecond:06d}"[:digits]))


def log4j(s: Step) -> Iterator[str]:
    yield f"{stamp(s, '%Y-%m-%d %H:%M:%S,%f')} {s.level:<5} [http-{s.number % 5}] com.acme.{s.source}.Service - [order {s.order}] {s.text}"
    yield from TRACE if s.failed else ()


def python_logging(s: Step) -> Iterator[str]:
    yield f"{stamp(s, '%Y-%m-%d %H:%M:%S,%f')} - shop.{s.source} - {s.level} - order={s.order} {s.text}"
    yield from TRACEBACK if s.failed else ()


def spring(s: Step) -> Iterator[str]:
    head = f"{stamp(s, '%Y-%m-%dT%H:%M:%S.%f')}Z {s.level:>5}"
    yield f"{head} 4711 --- [nio-{s.number % 5}] c.a.{s.source}.Service{'':8}: order {s.order}: {s.text}"
    yield from TRACE if s.failed else ()


def nginx_error(s: Step) -> Iterator[str]:
    level = {"INFO": "info", "DEBUG": "notice", "WARN": "warn", "ERROR": "error"}[s.level]
    yield f"{stamp(s, '%Y/%m/%d %H:%M:%S')} [{level}] 31#{30 + s.number % 3}: *{1000 + s.number} {s.text}, client: 10.0.0.{s.number % 200}"


def apache_error(s: Step) -> Iterator[str]:
    yield f"[{stamp(s, '%a %b %d %H:%M:%S.%f %Y', 6)}] [core:{s.level.lower()}] [pid {900 + s.number}] {s.text}"


def zap(s: Step) -> Iterator[str]:
    more = {"error": "read: timed out"} if s.failed else {}
    yield json.dumps(
        {"level": s.level.lower(), "ts": round(s.at.timestamp(), 3), "caller": f"{s.source}/main.go:17", "msg": s.text, "order_id": s.order}
        | more
    )


def ecs(s: Step) -> Iterator[str]:
    yield json.dumps(
        {
            "@timestamp": stamp(s, "%Y-%m-%dT%H:%M:%S.%fZ"),
            "log.level": s.level,
            "message": s.text,
            "trace": {"id": s.order},
            "host": {"name": "h1"},
        }
    )


def container(s: Step) -> Iterator[str]:
    body = json.dumps({"severity": s.level, "message": s.text, "order": s.order})
    yield f"{stamp(s, '%Y-%m-%dT%H:%M:%S.%f', 6)}Z stdout F {body}"


def pretty_json(s: Step) -> Iterator[str]:
    body = {"time": stamp(s, "%Y-%m-%dT%H:%M:%S.%fZ"), "level": s.level, "event": s.text, "order": s.order}
    yield from json.dumps(body, indent=2).splitlines()


def logfmt(s: Step) -> Iterator[str]:
    yield f'ts={stamp(s, "%Y-%m-%dT%H:%M:%S.%fZ")} level={s.level.lower()} component={s.source} order={s.order} msg="{s.text} \\"ok\\""'


def klog(s: Step) -> Iterator[str]:
    letter = {"DEBUG": "I"}.get(s.level, s.level[0])
    head = f"{letter}{stamp(s, '%m%d %H:%M:%S.%f', 6)}  {1200 + s.number % 3}"
    yield f'{head} {s.source}.go:{len(s.text) + 100}] "{s.text}" order="{s.order}"'


def rfc3164(s: Step) -> Iterator[str]:
    yield f"<{30 + len(s.level)}>{s.at:%b} {s.at.day:>2} {s.at:%H:%M:%S} shop1 {s.source}[{4000 + s.number}]: {s.text}"


def rfc5424(s: Step) -> Iterator[str]:
    yield f'<165>1 {stamp(s, "%Y-%m-%dT%H:%M:%S.%fZ")} shop1 {s.source} {4000 + s.number} ID47 [shop@32473 user="a] b"] {s.text}'


def windows_csv(s: Step) -> Iterator[str]:
    stamped = f"{s.at.month}/{s.at.day}/{s.at.year} {s.at.hour % 12 or 12}:{s.at:%M:%S} {'AM' if s.at.hour < 12 else 'PM'}"
    yield f'Information,{stamped},Shop-{s.source},{1000 + len(s.text)},{s.number + 5000},"{s.text}, as ""planned"""'


def postgres(s: Step) -> Iterator[str]:
    head = f"{stamp(s, '%Y-%m-%d %H:%M:%S.%f')} UTC [{7000 + s.number}] shop@store"
    yield f"{head} {'ERROR' if s.failed else 'LOG'}:  {s.text}"
    if s.failed:
        yield from (f"{head} STATEMENT:  SELECT *", "\tFROM orders", "\tWHERE id = 7;")


def pipes(s: Step) -> Iterator[str]:
    yield f"{stamp(s, '%Y%m%d-%H:%M:%S:%f')}|Shop_{s.source}|{30000000 + s.number}|{s.text}"


def android(s: Step) -> Iterator[str]:
    yield f"{stamp(s, '%m-%d %H:%M:%S.%f')}  {1700 + s.number} {2395 + s.number % 7} {s.level[0]} Shop{s.source}: {s.text}"


def access_log(s: Step) -> Iterator[str]:
    status = 502 if s.failed else 200
    path = f"/{s.source}/order?id={s.order}"
    head = f"10.0.{s.number % 4}.{s.number} - - [{s.at:%d/%b/%Y:%H:%M:%S} +0000]"
    yield f'{head} "POST {path} HTTP/1.1" {status} {len(s.text) * 97} "-" "curl/8 (x; y)"'


def journal(s: Step) -> dict[str, str]:
    return {
        "__CURSOR": f"s=1;i={s.at.timestamp()}",
        "__REALTIME_TIMESTAMP": str(int(s.at.timestamp() * 10**6)),
        "_PID": str(4000 + s.number),
        "PRIORITY": "3" if s.failed else "6",
        "SYSLOG_IDENTIFIER": s.source,
        "MESSAGE": s.text,
    }


def journal_json(s: Step) -> Iterator[str]:
    yield json.dumps(journal(s))


def journal_export(s: Step) -> Iterator[str]:
    yield from [f"{key}={value}" for key, value in journal(s).items()]
    yield ""


STYLES: dict[str, Callable[[Step], Iterator[str]]] = {
    f.__name__: f
    for f in (
        log4j,
        python_logging,
        spring,
        nginx_error,
        apache_error,
        zap,
        ecs,
        container,
        pretty_json,
        logfmt,
        klog,
        rfc3164,
        rfc5424,
        windows_csv,
        postgres,
        pipes,
        android,
        access_log,
        journal_json,
        journal_export,
    )
}
HEADERS = {"windows_csv": ["Level,Date and Time,Source,Event ID,Task,Message"]}


def lines_in(style: str, n_orders: int = 150) -> list[str]:
    """The orders' lines in a style."""
    return [*HEADERS.get(style, []), *(line for step in steps(n_orders) for line in STYLES[style](step))]
