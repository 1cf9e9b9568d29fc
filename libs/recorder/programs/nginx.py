"""nginx: the web server of a shop, in front of two application servers; a session is a client's connection."""

from __future__ import annotations

import base64
import http.client
import os
import random
import re
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from recorder.harm import filled, moved_away, owned_by_root, reset_on_close
from recorder.plan import Act, Entry
from recorder.program import Program, Stage, certificate, demand, run
from recorder.sinks import Service, Talk

TLS_PORT = 15443
APPS = (("127.0.0.1", 15501), ("127.0.0.1", 15502))
CONFIG = """
daemon off;
user www-data;
worker_processes 2;
pid {work}/nginx.pid;
error_log stderr info;
events {{ worker_connections 256; }}
http {{
  log_format main 'access: *$connection $remote_addr "$request" $status $body_bytes_sent rt=$request_time '
                  'upstream=$upstream_addr status=$upstream_status time=$upstream_response_time';
  access_log /dev/stdout main;
  client_body_temp_path {work}/body;
  proxy_temp_path {work}/proxy;
  fastcgi_temp_path {work}/f; uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
  keepalive_timeout 20s;
  client_header_timeout 2s; client_body_timeout 2s; send_timeout 2s;
  client_max_body_size 60k; client_body_buffer_size 4k;
  limit_req_zone $binary_remote_addr zone=each:1m rate=40r/s;
  limit_req_status 429;
  upstream app {{ server 127.0.0.1:15501 max_fails=0; server 127.0.0.1:15502 max_fails=0; }}
  server {{
    listen 127.0.0.1:{port};
    listen 127.0.0.1:{tls} ssl;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {work}/web.crt; ssl_certificate_key {work}/web.key;
    root {work}/www;
    location /api/ {{ limit_req zone=each burst=15 nodelay;
      proxy_pass http://app; proxy_connect_timeout 500ms; proxy_read_timeout 700ms; }}
    location /upload/ {{ proxy_pass http://app; proxy_read_timeout 700ms; }}
    location /private/ {{ auth_basic "staff"; auth_basic_user_file {work}/users; }}
  }}
}}
"""
PAGES = {"index.html": 900, "cart.html": 700, "help.html": 1500, "style.css": 3000, "app.js": 9000, "logo.png": 5000}
Answer = tuple[int, str, bytes]


class Nginx(Program):
    """A web server with static pages, a proxied interface, uploads and a private corner."""

    name = "nginx"
    packages = ("nginx-light", "openssl")
    needs = ("nginx", "openssl")
    address = ("127.0.0.1", 15480)
    host = "web"
    stamp = "%Y-%m-%dT%H:%M:%S.{ms}Z web nginx: "
    own_time = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ")
    names_addresses = True
    introduces = (re.compile(r"access: \*(?P<session>\d+) (?P<conversation>[\d.]+) "),
                  re.compile(r": \*(?P<session>\d+) .*client: (?P<conversation>[\d.]+)[, ]"),
                  re.compile(r": \*(?P<session>\d+) client (?P<conversation>[\d.]+) "))  # fmt: skip

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.trouble: dict[str, Callable[[Talk, str], None]] = {}
        self.apps = [Service(address, self.serve) for address in APPS]

    def prepare(self) -> list[str]:
        """Write pages, users and configuration."""
        work = self.stage.work
        certificate(work, "web")
        for folder in ("www", "www/private", "body", "proxy", "f", "u", "s"):
            (work / folder).mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", work / "body")
        for page, size in PAGES.items():
            (work / "www" / page).write_bytes(b"x" * size)
        for n in range(60):
            (work / "www" / f"item-{n}.html").write_bytes(b"x" * (500 + 37 * n))
        (work / "www" / "catalogue.pdf").write_bytes(b"x" * 2_000_000)
        (work / "www" / "private" / "sales.csv").write_bytes(b"x" * 4000)
        (work / "users").write_text("staff:" + run("openssl", "passwd", "-apr1", "secret"), encoding="ascii")
        (work / "nginx.conf").write_text(CONFIG.format(work=work, port=self.address[1], tls=TLS_PORT), encoding="ascii")
        for app in self.apps:
            app.up()
        return ["nginx", "-e", "stderr", "-c", str(work / "nginx.conf")]

    def shut_down(self, process: object) -> None:
        """End it, its applications and its small file system."""
        super().shut_down(process)  # type: ignore[arg-type]
        for app in self.apps:
            app.down()
        run("umount", "-l", self.stage.work / "body")

    def serve(self, talk: Talk) -> None:
        """Answer one request as the application does, unless there is trouble with its path."""
        request, size = talk.hear(), 0
        while header := talk.hear():
            if header.lower().startswith("content-length:"):
                size = int(header.split(":")[1])
        while size > 0:
            size -= len(talk._stream.read(min(size, 4096))) or size
        path = request.split(" ")[1]
        self.trouble.get(path, self.answer)(talk, path)

    def answer(self, talk: Talk, path: str, status: str = "200 OK", more: str = "") -> None:
        """Send a healthy answer."""
        body = "x" * (50 + 7 * (len(path) % 9))
        talk.say(f"HTTP/1.0 {status}\r\nContent-Type: application/json\r\n{more}Content-Length: {len(body)}\r\n\r\n{body}", end="")

    @contextmanager
    def client(self, rng: random.Random, kind: str | None = None, wait: float = 5.0) -> Iterator[Web]:
        """A browser's connection."""
        with self.visit(rng, kind) as source:
            web = Web(self.address[1], source, wait)
            try:
                yield web
            finally:
                web.close()

    @contextmanager
    def troubled(self, path: str, how: Callable[[Talk, str], None]) -> Iterator[None]:
        """While this lasts, the application treats this path so."""
        self.trouble[path] = how
        try:
            yield
        finally:
            del self.trouble[path]


class Web(http.client.HTTPConnection):
    """A connection that asks for one thing after the other."""

    def __init__(self, port: int, source: tuple[str, int], wait: float) -> None:
        super().__init__("127.0.0.1", port, timeout=wait, source_address=source)
        self.connect()

    def get(self, path: str, wanted: int = 200, method: str = "GET", body: bytes | None = None, password: str = "") -> bytes:
        """Ask and return the body. Raises MissedError for another status than wanted."""
        try:
            self.request(method, path, body, {"Host": "shop.example.org"} | (basic(password) if password else {}))
            answer = self.getresponse()
            content = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        demand(answer.status == wanted, f"status {wanted}, not {answer.status}")
        return content


def basic(password: str) -> dict[str, str]:
    """Return the header of a login."""
    return {"Authorization": "Basic " + base64.b64encode(f"staff:{password}".encode()).decode()}


def browse(nginx: Nginx, rng: random.Random) -> None:
    """Somebody looks around; an old link or a missing icon is daily life."""
    with nginx.client(rng) as web:
        for page in ("index.html", "style.css", "app.js", "logo.png")[: rng.randint(1, 4)]:
            web.get(f"/{page}")
        if rng.random() < 0.15:
            web.get(rng.choice(("/favicon.ico", "/robots.txt", f"/old-{rng.randint(1, 30)}.html")), 404)
        for _ in range(rng.randint(1, 4)):
            nginx.pause(rng, 5, 60)
            web.get(f"/item-{rng.randrange(60)}.html")


def order(nginx: Nginx, rng: random.Random, web: Web) -> None:
    """Order something: four steps."""
    web.get("/cart.html")
    web.get(f"/api/cart/{rng.randint(1, 9999)}")
    nginx.pause(rng, 5, 60)
    web.get(f"/api/order/{rng.randint(1, 9999)}", method="POST", body=b"x" * rng.randint(50, 600))
    web.get(f"/api/receipt/{rng.randint(1, 9999)}")


def shop(nginx: Nginx, rng: random.Random) -> None:
    """Somebody orders; a form may be rejected once."""
    with nginx.client(rng) as web:
        web.get("/index.html")
        if rng.random() < 0.12:
            path = f"/api/check/{rng.getrandbits(32)}"
            with nginx.troubled(path, lambda talk, path: nginx.answer(talk, path, "422 Unprocessable Entity")):
                web.get(path, 422)
        order(nginx, rng, web)


def poll(nginx: Nginx, rng: random.Random) -> None:
    """The app on a telephone asks for news."""
    with nginx.client(rng) as web:
        for _ in range(rng.randint(1, 6)):
            web.get(f"/api/news/{rng.randint(1, 99)}")
            nginx.pause(rng, 5, 60)


def upload(nginx: Nginx, rng: random.Random) -> None:
    """Somebody sends a picture; one that is too large is refused and sent smaller."""
    with nginx.client(rng) as web:
        if rng.random() < 0.15:
            web.get("/upload/picture", 413, "POST", b"x" * 70_000)
            web.close()
            web.connect()
        else:
            web.get(f"/upload/picture/{rng.randint(1, 999)}", 200, "POST", b"x" * rng.randint(2_000, 50_000))


def download(nginx: Nginx, rng: random.Random) -> None:
    """Somebody loads the catalogue, and sometimes stops in the middle."""
    with nginx.client(rng) as web:
        if rng.random() < 0.3:
            web.request("GET", "/catalogue.pdf")
            web.sock.recv(9000)
        else:
            web.get("/catalogue.pdf")


def staff(nginx: Nginx, rng: random.Random) -> None:
    """Somebody of the staff reads figures; the password may go wrong once."""
    with nginx.client(rng) as web:
        web.get("/private/sales.csv", 401)
        if rng.random() < 0.2:
            web.get("/private/sales.csv", 401, password="oops")
        web.get("/private/sales.csv", password="secret")


def over_tls(nginx: Nginx, rng: random.Random) -> None:
    """Somebody comes by TLS."""
    with nginx.visit(rng) as source:
        raw = socket.create_connection(("127.0.0.1", TLS_PORT), timeout=5, source_address=source)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(raw) as stream:
            stream.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
            demand(b" 200 " in stream.recv(4096), "the page")


def rolling_update(nginx: Nginx, rng: random.Random) -> None:
    """One of the two applications restarts; the other one answers, and no client notices."""
    with nginx.apps[rng.randrange(2)].outage():
        for _ in range(rng.randint(1, 3)):
            with nginx.client(rng) as web:
                web.get(f"/api/news/{rng.randint(1, 99)}")


def monitor(nginx: Nginx, rng: random.Random) -> None:
    """The monitoring connects and hangs up."""
    with nginx.visit(rng) as source:
        socket.create_connection(nginx.address, source_address=source).close()


def both_down(nginx: Nginx, rng: random.Random) -> None:
    """Both applications refuse connections."""
    with nginx.stage.gate.closed(patience=0.5), nginx.apps[0].outage(), nginx.apps[1].outage():
        for _ in range(rng.randint(1, 3)):
            with nginx.client(rng, "upstream refused connections") as web:
                web.get("/index.html")
                order(nginx, rng, web)
            nginx.pause(rng, 5, 60)


def app_fault(kind: str, how: Callable[[Nginx, Talk, str], None], low: int, high: int) -> Act[Nginx]:
    """Return a fault: the application treats some orders in this way."""

    def act(nginx: Nginx, rng: random.Random) -> None:
        for _ in range(rng.randint(low, high)):
            path = f"/api/order/{rng.getrandbits(20)}"
            with nginx.troubled(path, lambda talk, path: how(nginx, talk, path)), nginx.client(rng, kind) as web:
                web.get("/cart.html")
                web.get(f"/api/cart/{rng.randint(1, 9999)}")
                web.get(path, method="POST", body=b"x" * 100)
            nginx.pause(rng, 5, 60)

    act.__name__ = kind.replace(" ", "_")
    return act


def stall(nginx: Nginx, talk: Talk, path: str) -> None:
    """Answer too late."""
    time.sleep(1.0)
    nginx.answer(talk, path)


def cut_short(nginx: Nginx, talk: Talk, path: str) -> None:
    """Promise more than is sent."""
    talk.say(f"HTTP/1.0 200 OK\r\nContent-Length: 900\r\n\r\n{path}", end="")


def too_slow(nginx: Nginx, rng: random.Random) -> None:
    """The application takes its time, within what is allowed; the client gives up before."""
    for _ in range(rng.randint(1, 3)):
        path = f"/api/order/{rng.getrandbits(20)}"

        def slow(talk: Talk, path: str) -> None:
            time.sleep(0.6)
            nginx.answer(talk, path)

        with nginx.troubled(path, slow), nginx.client(rng, "client gave up on a slow upstream", wait=0.3) as web:
            web.get("/cart.html")
            web.get(path, method="POST", body=b"x" * 100)
        time.sleep(0.7)


def redirects(nginx: Nginx, rng: random.Random) -> None:
    """A wrong setting of the application sends clients in a circle."""
    for _ in range(rng.randint(1, 2)):
        path = f"/api/account/{rng.getrandbits(20)}"

        def moved(talk: Talk, path: str) -> None:
            nginx.answer(talk, path, "302 Found", f"Location: {path}\r\n")

        with nginx.troubled(path, moved), nginx.client(rng, "redirected in a circle") as web:
            web.get("/index.html")
            for _ in range(rng.randint(6, 10)):
                web.get(path, 302)
            demand(False, "an end")


def page_lost(nginx: Nginx, rng: random.Random) -> None:
    """A release has forgotten the script that every page needs."""
    with nginx.stage.gate.closed(patience=0.5), moved_away(nginx.stage.work / "www" / "app.js"):
        for _ in range(rng.randint(1, 3)):
            with nginx.client(rng, "file missing") as web:
                web.get("/index.html")
                web.get("/style.css")
                web.get("/app.js")
            nginx.pause(rng, 5, 60)


def page_forbidden(nginx: Nginx, rng: random.Random) -> None:
    """A release has left the private folder unreadable for the server."""
    with nginx.stage.gate.closed(patience=0.5), owned_by_root(nginx.stage.work / "www" / "private"):
        for _ in range(rng.randint(1, 3)):
            with nginx.client(rng, "file not readable") as web:
                web.get("/private/sales.csv", 401)
                web.get("/private/sales.csv", password="secret")


def page_empty(nginx: Nginx, rng: random.Random) -> None:
    """A release has left an empty page, which is served as if nothing were wrong."""
    page = nginx.stage.work / "www" / f"item-{rng.randrange(60)}.html"
    content = page.read_bytes()
    with nginx.stage.gate.closed(patience=0.5):
        page.write_bytes(b"")
        for _ in range(rng.randint(1, 3)):
            with nginx.client(rng, "page empty") as web:
                web.get("/index.html")
                demand(len(web.get(f"/{page.name}")) > 0, "a page")
        page.write_bytes(content)


def disk_full(nginx: Nginx, rng: random.Random) -> None:
    """No room for uploads."""
    with nginx.stage.gate.closed(patience=0.5), filled(nginx.stage.work / "body"):
        for _ in range(rng.randint(1, 3)):
            with nginx.client(rng, "disk full") as web:
                web.get("/index.html")
                web.get(f"/upload/picture/{rng.randint(1, 999)}", 200, "POST", b"x" * rng.randint(9_000, 50_000))
            nginx.pause(rng, 5, 60)


def worker_killed(nginx: Nginx, rng: random.Random) -> None:
    """A worker is killed; its clients lose their connections in the middle of an order."""
    with nginx.stage.gate.closed(patience=0.5):
        for _ in range(rng.randint(1, 2)):
            path = f"/api/order/{rng.getrandbits(20)}"

            def fatal(talk: Talk, path: str) -> None:
                for worker in run("pgrep", "-P", str(nginx.pid)).split():
                    os.kill(int(worker), signal.SIGKILL)

            with nginx.troubled(path, fatal), nginx.client(rng, "worker killed") as web:
                web.get("/cart.html")
                web.get(f"/api/cart/{rng.randint(1, 9999)}")
                web.get(path, method="POST", body=b"x" * 100)
            time.sleep(0.3)


def over_limit(nginx: Nginx, rng: random.Random) -> None:
    """A broken app asks without pause until it is refused."""
    with nginx.client(rng, "requests over the limit") as web:
        for _ in range(60):
            web.get(f"/api/news/{rng.randint(1, 99)}")


def guess_passwords(nginx: Nginx, rng: random.Random) -> None:
    """An intruder tries passwords."""
    with nginx.client(rng) as web:
        nginx.stage.ledger.harm(web.sock.getsockname()[0], "password guessing")
        for n in range(rng.randint(4, 9)):
            web.get("/private/sales.csv", 401, password=f"summer{n}")


def scan(nginx: Nginx, rng: random.Random) -> None:
    """An intruder looks for files that should not be there."""
    with nginx.client(rng) as web:
        nginx.stage.ledger.harm(web.sock.getsockname()[0], "scan for weak spots")
        for path in rng.sample(("/wp-login.php", "/.env", "/.git/config", "/admin.php", "/backup.sql", "/config.json"), rng.randint(3, 6)):
            web.get(path, 404)


def cut_off(nginx: Nginx, rng: random.Random) -> None:
    """A client loses its network in the middle of an upload."""
    with nginx.client(rng) as web:
        nginx.stage.ledger.harm(web.sock.getsockname()[0], "client vanished in transfer")
        web.get("/index.html")
        web.putrequest("POST", f"/upload/picture/{rng.randint(1, 999)}", skip_host=True)
        web.putheader("Host", "shop.example.org")
        web.putheader("Content-Length", "50000")
        web.endheaders(b"x" * 9000)
        time.sleep(0.05)
        reset_on_close(web.sock)


def tls_refused(nginx: Nginx, rng: random.Random) -> None:
    """A client does not accept the certificate, or speaks only an old TLS."""
    for _ in range(rng.randint(1, 3)):
        with nginx.visit(rng, "TLS handshake failed") as source:
            raw = socket.create_connection(("127.0.0.1", TLS_PORT), timeout=5, source_address=source)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            if rng.random() < 0.5:
                context.verify_mode = ssl.CERT_NONE
                context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
                context.set_ciphers("ALL:@SECLEVEL=0")
            context.wrap_socket(raw).close()


ENTRY = Entry(
    Nginx,
    {browse: 34, shop: 22, poll: 18, upload: 7, download: 5, staff: 5, over_tls: 6, rolling_update: 0.8, monitor: 2},
    {
        both_down: (1, 0, 1), app_fault("application failed", lambda n, t, p: n.answer(t, p, "500 Internal Server Error"), 1, 3): (1, 1, 1),
        app_fault("upstream timed out", stall, 1, 2): (1, 1, 1), app_fault("upstream cut its answer", cut_short, 1, 2): (1, 0, 1),
        app_fault("upstream hung up", lambda *_: None, 1, 2): (0, 1, 1), too_slow: (1, 1, 1), redirects: (1, 1, 1),
        page_lost: (1, 0, 1), page_forbidden: (0, 1, 0), page_empty: (1, 1, 1), disk_full: (0, 1, 1), worker_killed: (1, 1, 1),
        over_limit: (1, 1, 1), guess_passwords: (1, 1, 1), scan: (1, 1, 1), cut_off: (2, 1, 2), tls_refused: (1, 1, 1),
    },
    per_day=600,
    speed=900,
)  # fmt: skip
