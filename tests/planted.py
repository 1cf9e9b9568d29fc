"""Real lines with secrets of many kinds planted in them, by a seed; no secret is written down anywhere."""

from __future__ import annotations

import base64
import gzip
import json
import random
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nightlog

LOGS = Path(nightlog.__file__).parent / "sample" / "logs"
LOWER = string.ascii_lowercase
ALNUM = string.ascii_letters + string.digits
Make = Callable[[random.Random], str]


@dataclass(frozen=True)
class Planted:
    """A line with something planted in it: its kind, the line, and the part that must not leave."""

    kind: str
    line: str
    secret: str


def drawn(rng: random.Random, alphabet: str, size: int) -> str:
    """Random characters, with a digit and a letter among them where the alphabet has such."""
    found = rng.choices(alphabet, k=size)
    for place, kind in ((0, str.isalpha), (size // 2, str.isdigit)):
        if fitting := [c for c in alphabet if kind(c)]:
            found[place] = rng.choice(fitting)
    return "".join(found)


def b64(rng: random.Random, size: int) -> str:
    return base64.b64encode(rng.randbytes(size)).decode()


def url64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def jwt(rng: random.Random) -> str:
    claims = {"sub": drawn(rng, ALNUM, 12), "exp": rng.randrange(10**9, 2 * 10**9)}
    return ".".join(("eyJ" + url64({"alg": "HS256", "typ": "JWT"})[3:], url64(claims), drawn(rng, ALNUM + "-_", 43)))


def word(rng: random.Random) -> str:
    """A password as people choose them: letters alone, or with digits and signs behind."""
    start = "".join(rng.choices(LOWER, k=rng.randrange(6, 12)))
    return start + rng.choice(["", str(rng.randrange(10, 9999)), rng.choice("!#%*_-") + str(rng.randrange(100))])


def pem(rng: random.Random) -> str:
    return "PRIVATE KEY----- " + b64(rng, 96) + " -----END"


def token(prefix: str, alphabet: str, size: int) -> Make:
    return lambda rng: prefix + drawn(rng, alphabet, size)


# kind → (how it stands in a line, `{}` is the secret; how it is made)
SECRETS: dict[str, tuple[str, Make]] = {
    "cloud access key": ("using key {}", token("AKI" + "A", string.ascii_uppercase + "234567", 16)),
    "cloud secret key": ("aws_secret_access_key = {}", lambda rng: b64(rng, 30)),
    "bare secret key": ("signed with {}", lambda rng: b64(rng, 30)),
    "github token": ("push as {}", token("gh" + "p_", ALNUM, 36)),
    "fine-grained token": ("clone by {}", token("github" + "_pat_", ALNUM + "_", 60)),
    "gitlab token": ("runner {} registered", token("gl" + "pat-", ALNUM + "-_", 20)),
    "chat token": ("posting with {}", lambda rng: f"xox{'b'}-{rng.randrange(10**11, 10**12)}-{drawn(rng, ALNUM, 24)}"),
    "chat webhook": ("post https://hooks.slack.com/services/{}", token("T0" + "1", string.ascii_uppercase + string.digits + "/", 30)),
    "payment key": ("charge by {}", token("sk" + "_live_", ALNUM, 24)),
    "llm key": ("calling with {}", token("sk" + "-proj-", ALNUM, 40)),
    "maps key": ("geocode key {}", token("AI" + "za", ALNUM + "-_", 35)),
    "oauth token": ("refresh {}", token("ya" + "29.", ALNUM + "-_", 40)),
    "package token": ("publish {}", token("np" + "m_", ALNUM, 36)),
    "index token": ("upload {}", token("py" + "pi-", ALNUM, 60)),
    "mail service key": ("relay by {}", lambda rng: "S" + "G." + drawn(rng, ALNUM, 22) + "." + drawn(rng, ALNUM, 43)),
    "model hub token": ("download with {}", token("h" + "f_", ALNUM, 34)),
    "vault token": ("lease {}", token("hv" + "s.", ALNUM, 24)),
    "hosting token": ("deploy {}", token("do" + "p_v1_", "0123456789abcdef", 64)),
    "jwt": ("session {} accepted", jwt),
    "bearer": ("Authorization: Bearer {}", token("", ALNUM + "-._", 28)),
    "basic": ("authorization: Basic {}", lambda rng: base64.b64encode(f"{word(rng)}:{word(rng)}".encode()).decode()),
    "cookie": ("Set-Cookie: SESSION={}", token("", ALNUM, 24)),
    "password": ("password={}", word),
    "password in JSON": ('{{"password": "{}"}}', word),
    "password in YAML": ("db_password: {}", word),
    "password in SQL": ("ALTER ROLE app PASSWORD '{}'", word),
    "password option": ("run --password {}", word),
    "password in URL": ("connect postgres://app:{}@db.example.com/shop", word),
    "password in AMQP URL": ("amqp://guest:{}@queue:5672/", word),
    "environment": ("MAIL_PASSWD={}", word),
    "connection string": ("Server=db1;User Id=sa;Pwd={};Encrypt=yes", word),
    "storage account key": ("AccountName=logs;AccountKey={}", lambda rng: b64(rng, 64)),
    "api key": ("api_key={}", token("", "0123456789abcdef", 12)),
    "api key header": ("X-Api-Key: {}", token("", ALNUM, 20)),
    "client secret": ("client_secret={}", token("", ALNUM + "~.-_", 30)),
    "access token": ("access_token: {}", token("", ALNUM, 22)),
    "signature": ("X-Amz-Signature={}&", token("", "0123456789abcdef", 64)),
    "digest": ("digest {} differs", token("", "0123456789abcdef", 40)),
    "private key": ("-----BEGIN RSA {} RSA PRIVATE KEY-----", pem),
    "passphrase": ("passphrase is {}", lambda rng: word(rng) + str(rng.randrange(10, 99))),
    "e-mail": ("mail to {}", lambda rng: f"{drawn(rng, ALNUM, 7)}.{word(rng)[:6]}@{drawn(rng, LOWER, 8)}.org"),
    "e-mail in brackets": (
        "to=<{}>,",
        lambda rng: f"{drawn(rng, LOWER, 8)}@mail.{drawn(rng, LOWER, 6)}.co.uk",
    ),
    "IPv4": ("peer {} gone", lambda rng: ".".join(str(rng.randrange(1, 255)) for _ in range(4))),
    "IPv6": ("from [{}]:443", lambda rng: "2001:db8:" + ":".join(f"{rng.randrange(4096, 65536):x}" for _ in range(6))),
    "MAC": ("arp {} flaps", lambda rng: ":".join(f"{rng.randrange(256):02x}" for _ in range(6))),
}
NAMES: dict[str, tuple[str, Make]] = {
    "user key": ("user={}", token("", LOWER, 8)),
    "user quoted": ('role "{}" does not exist', token("", LOWER, 7)),
    "user sentence": ("session opened for user {} by (uid=0)", token("", LOWER, 6)),
    "user ssh": ("Failed password for invalid user {} from 10.0.0.7 port 22 ssh2", token("", LOWER, 6)),
    "user home": ("cannot open /home/{}/mail", token("", LOWER, 6)),
    "user brackets": ("user=<{}>, method=PLAIN", token("", LOWER + string.digits, 7)),
    "user of domain": ("logon of CORP\\{}", token("", LOWER, 8)),
    "host key": ("rhost={}", token("", LOWER, 8)),
    "host of address": ("connect from {}[10.1.2.3]:4711", lambda rng: drawn(rng, LOWER, 5) + ".example.org"),
    "host name": ("lookup of {} took long", lambda rng: drawn(rng, LOWER, 8) + ".corp.example.net"),
    "host url": ("GET https://{}:8443/health", lambda rng: drawn(rng, LOWER, 8) + "-3.internal"),
    "host port": ("dial to {}:5432 refused", lambda rng: drawn(rng, LOWER, 6) + "7"),
}


def real_messages(limit: int) -> list[str]:
    """The messages of lines of the sample corpus, evenly from all its files, headers cut off."""
    found: list[str] = []
    for folder, words in (("dovecot", 2), ("postfix", 5), ("postgres", 7)):
        file = sorted((LOGS / folder).glob("*.log.gz"))[-1]
        lines = [line.split(" ", words)[-1] for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
        found += lines[:: max(1, len(lines) // (limit // 3))]
    return found


def plant(seed: int, times: int, kinds: dict[str, tuple[str, Make]]) -> Iterator[Planted]:
    """Each kind `times` times, each time in another real message: before it, behind it, or at one of its blanks."""
    rng = random.Random(seed)
    lines = real_messages(900)
    for kind, (form, make) in kinds.items():
        for _ in range(times):
            secret = make(rng)
            words = rng.choice(lines).split(" ")
            at = rng.randrange(len(words) + 1)
            yield Planted(kind, " ".join([*words[:at], form.format(secret), *words[at:]]), secret)
