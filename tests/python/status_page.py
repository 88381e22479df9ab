"""Opens the status page of a real agent in a real browser: Chromium, headless.

    python status_page.py --binary tallyman                     checks it
    python status_page.py --binary tallyman --pictures docs     makes the pictures of docs/ (some seven minutes)

It starts a sandbox and an agent itself, on loopback, with clocks that run fast until there is something to see.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from math import sin
from pathlib import Path

from checks import Wrong, expect, run
from playwright.sync_api import Page, sync_playwright
from ports import free_port

PRODUCTS = """
[[product]]
code = "acme-storage"
identity = "account"
zero_records = false
endpoint_url = "http://SANDBOX"
[[product.dimension]]
name = "requests"
[[product.dimension]]
name = "gb_out"
unit = 1000000000
decimals = 3
SEATS
CUSTOMERS

[[product]]
code = "acme-insight"
identity = "account"
zero_records = false
endpoint_url = "http://SANDBOX"
[[product.dimension]]
name = "reports"
"""
SEATS = '[[product.dimension]]\nname = "seats"\naggregate = "max"\n'
ACCOUNTS = [f"{number:012}" for number in range(111111111111, 111111111117)]
# An hour passes in a second.
FAST = 3600
# So that no hour is without usage, also on a busy machine.
UNHURRIED = 1500
PATIENCE = 60


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"


class Scene:
    """A sandbox, an agent, and applications that send usage."""

    def __init__(self, binary: str, folder: Path, start: str, speed: float):
        self.binary, self.folder = binary, folder
        self.grpc, self.admin, self.sandbox_address = free_address(), free_address(), free_address()
        self.url = f"http://{self.admin}/"
        self.agent: subprocess.Popen | None = None
        self.sandbox: subprocess.Popen | None = None
        self.show_customers = False
        self.set_clock(datetime.fromisoformat(start), speed)

    def set_clock(self, start: datetime, speed: float) -> None:
        self.anchor, self.start, self.speed = int(time.time()), start, speed

    def now(self) -> datetime:
        return self.start + timedelta(seconds=(time.time() - self.anchor) * self.speed)

    def clock(self) -> list[str]:
        start = self.start.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return ["--clock", f"anchor={self.anchor},start={start},speed={self.speed}"]

    def write(self, name: str, seats: str, customers: list[str]) -> Path:
        lines = [f'[[product.customer]]\nkey = "{account}"\naccount_id = "{account}"' for account in customers]
        products = PRODUCTS.replace("SANDBOX", self.sandbox_address).replace("SEATS", seats)
        products = products.replace("CUSTOMERS", "\n".join(lines))
        text = (
            f'[agent]\nid = "metering-0"\ndata_dir = "{self.folder / "data"}"\n'
            f'[grpc]\nlisten = "{self.grpc}"\n'
            f'[admin]\nlisten = "{self.admin}"\nshow_customers = {str(self.show_customers).lower()}\n'
            # Else each start would leave ended hours open for five minutes of its own time.
            f'[hour]\ngrace = "0s"\n{products}\n' + "\n".join(lines)
        )
        path = self.folder / name
        path.write_text(text)
        return path

    def spawn(self, *args: str) -> subprocess.Popen:
        environment = os.environ | {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        log = open(self.folder / "log", "ab")
        return subprocess.Popen([self.binary, *args], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start_sandbox(self) -> None:
        # It knows no seats, so it refuses them.
        config = self.write("sandbox.toml", "", ACCOUNTS)
        self.sandbox = self.spawn(
            "sandbox", "--listen", self.sandbox_address, "--config", str(config), "--latency", "40", *self.clock()
        )
        until("the sandbox listens", lambda: connects(self.sandbox_address))

    def stop_sandbox(self) -> None:
        stop(self.sandbox)
        self.sandbox = None

    def start_agent(self) -> None:
        config = self.write("agent.toml", SEATS, ACCOUNTS)
        self.agent = self.spawn("run", "--config", str(config), *self.clock())
        until("the agent is ready", lambda: self.get("readyz") is not None)

    def stop_agent(self) -> None:
        stop(self.agent)
        self.agent = None

    def restart(self, speed: float, minute: int | None = None) -> None:
        """Both go on at their own time, or at a later minute of the hour, at another speed."""
        self.stop_agent()
        was_reachable = self.sandbox is not None
        self.stop_sandbox()
        now = self.now()
        self.set_clock(now if minute is None else now.replace(minute=max(minute, now.minute)), speed)
        if was_reachable:
            self.start_sandbox()
        self.start_agent()

    def get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return None

    def summary(self) -> dict:
        return json.loads(self.get("api/summary") or "{}")

    def answer(self) -> str:
        return self.summary().get("billed", {}).get("answer", "")

    def emit(self, product: str, dimension: str, customer: str, quantity: int, count: int = 1) -> None:
        subprocess.run(
            [self.binary, "emit", "--address", self.grpc, "--product", product, "--dimension", dimension]
            + ["--customer", customer, "--quantity", str(quantity), "--count", str(count), "--log", "error"],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def use(self, hours: float, seats: bool = False) -> None:
        """Usage of all kinds, until so many hours of the agent's time have passed."""
        end, number = self.now() + timedelta(hours=hours), 0
        while self.now() < end:
            account = ACCOUNTS[number % len(ACCOUNTS)]
            self.emit("acme-storage", "requests", account, 40 + number % 7, 20)
            self.emit("acme-storage", "gb_out", account, 3_141_592_653 + number, 3)
            self.emit("acme-insight", "reports", account, 1 + number % 3)
            if seats and number < 3:
                self.emit("acme-storage", "seats", account, 12)
            number += 1

    def close(self) -> None:
        stop(self.agent)
        stop(self.sandbox)


def stop(process: subprocess.Popen | None) -> None:
    if process is None:
        return
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def connects(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex((host, int(port))) == 0


def until(what: str, holds) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise Wrong(f"never happened: {what}")
        time.sleep(0.05)


@contextmanager
def chromium():
    names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"]
    found = [path for path in map(shutil.which, names) if path]
    expect(bool(found), "there is no Chromium here: run `make setup`")
    # Chromium's own sandbox does not work for root, nor in most containers. It only sees this agent's page.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found[0], args=arguments)
        yield browser
        browser.close()


class Subject:
    def __init__(self, scene: Scene, browser):
        self.scene, self.browser = scene, browser

    @contextmanager
    def page(self, width: int = 1200, height: int = 900, live: bool = True, **options):
        """A page that has loaded. Nothing in it may fail, or ask anyone else."""
        context = self.browser.new_context(viewport={"width": width, "height": height}, **options)
        page, faults, requests = context.new_page(), [], []
        page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(self.scene.url, wait_until="load" if live else "domcontentloaded")
        if live:
            page.wait_for_selector("body[data-live=yes]")
        page.faults = faults
        yield page
        elsewhere = [url for url in requests if not url.startswith((self.scene.url, "data:"))]
        context.close()
        expect(not elsewhere, f"the page asked elsewhere: {elsewhere}")
        expect(not faults, f"the browser complains: {faults}")


def the_page_loads_without_complaint_and_says_that_all_is_billed(it: Subject) -> None:
    with it.page() as page:
        answer = page.inner_text("h1")
        expect(answer.startswith("Yes."), f"{answer!r}\n{it.scene.summary()}")
        cells = page.locator("#hours .strip .h")
        expect(cells.count() == 48, f"{cells.count()} hours")
        expect(page.locator("#hours .strip .h.accepted").count() > 3, "no hour is accepted")
        expect("As of" not in page.inner_text("header"), "it is live and does not say so")


def a_change_arrives_without_a_reload_and_leaves_alone_what_is_open(it: Subject) -> None:
    with it.page() as page:
        page.evaluate("window.stayed = true")
        page.click("#hours summary")
        before = page.inner_text("#products article:first-of-type")
        it.scene.emit("acme-storage", "requests", ACCOUNTS[0], 123_456_789)
        page.wait_for_function(
            "before => document.querySelector('#products article').innerText !== before"
            " && document.querySelector('#products').innerText.includes('123,4')",
            arg=before,
        )
        expect(page.evaluate("window.stayed"), "the page was loaded anew")
        expect(page.evaluate("document.querySelector('#hours details').open"), "what was opened is closed again")


def nothing_stands_out_on_a_phone(it: Subject) -> None:
    for width in (320, 360, 768):
        with it.page(width=width) as page:
            page.click("#hours summary")
            wide = page.evaluate("document.documentElement.scrollWidth")
            expect(wide <= width, f"{wide} px on a screen of {width}")


# The contrast of each text with what is behind it, as WCAG 2 has it.
CONTRAST = """() => {
  const parse = (text) => (text.match(/[0-9.]+/g) || []).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return parse(getComputedStyle(document.documentElement).backgroundColor);
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${element.tagName} ${element.textContent.slice(0, 40)}`);
  }
  return poor;
}"""


def text_stands_out_by_day_and_by_night(it: Subject) -> None:
    grounds = set()
    for scheme in ("light", "dark"):
        with it.page(color_scheme=scheme) as page:
            poor = page.evaluate(CONTRAST)
            expect(not poor, f"hard to read ({scheme}): {poor}")
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    expect(len(grounds) == 2, f"night is like day: {grounds}")


def it_is_built_for_those_who_do_not_see_it_and_those_who_mind_motion(it: Subject) -> None:
    with it.page(reduced_motion="reduce") as page:
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((h) => Number(h.tagName[1]))")
        expect(levels.count(1) == 1, f"headings: {levels}")
        steps = zip(levels, levels[1:])
        expect(all(below - above <= 1 for above, below in steps), f"a heading's level is left out: {levels}")
        bare = page.evaluate(
            "[...document.querySelectorAll('table')].filter((t) => !t.caption || !t.tHead"
            " || [...t.querySelectorAll('th')].some((h) => !h.scope)).length"
        )
        expect(bare == 0, f"{bare} tables without captions or scopes")
        nameless = page.locator("section:not([aria-label]), svg[role=img]:not([aria-label])").count()
        expect(nameless == 0, f"{nameless} parts have no name")
        moving = page.evaluate("getComputedStyle(document.querySelector('.dot')).animationName")
        expect(moving == "none", f"it moves: {moving}")


def without_javascript_it_says_of_when_it_is_and_asks_again(it: Subject) -> None:
    with it.page(live=False, java_script_enabled=False) as page:
        header = page.inner_text("header")
        expect("As of" in header and "UTC" in header, header)
        expect("Live" not in header, header)
        expect(page.inner_text("h1").startswith("Yes."), page.inner_text("h1"))
        page.click("#hours summary")
        expect("accepted by AWS" in page.inner_text("#hours table"), "no table of the hours")
        refresh = page.locator("meta[http-equiv=refresh]").count()
        expect(refresh == 1, "it does not ask again")


def what_is_not_live_is_never_shown_as_live(it: Subject) -> None:
    with it.page() as page:
        it.scene.agent.send_signal(signal.SIGSTOP)
        try:
            page.wait_for_selector("body[data-live=lost]")
            page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
            place = page.locator("#lost").bounding_box()
            expect(page.is_visible("#lost") and 0 <= place["y"] < 900, f"no word of the loss in sight: {place}")
            expect("Not live" in page.inner_text("header"), page.inner_text("header"))
            shown = page.inner_text("#clock")
            expect(shown in page.inner_text("#lost"), "it does not say of when it is")
            time.sleep(1.5)
            expect(page.inner_text("#clock") == shown, "time goes on while nothing is known")
        finally:
            it.scene.agent.send_signal(signal.SIGCONT)
        page.wait_for_selector("body[data-live=yes]")
        expect(not page.is_visible("#lost"), "the loss is over, and it does not say so")
        expect(not page.faults, f"the browser complains: {page.faults}")

        it.scene.stop_agent()
        page.wait_for_selector("body[data-live=lost]")
        it.scene.start_agent()
        page.wait_for_selector("body[data-live=yes]", timeout=30_000)
        # That it was refused while there was no agent is what the browser had to tell.
        page.faults[:] = [fault for fault in page.faults if "ERR_" not in fault]


def an_outage_shows_what_waits_until_when_and_what_to_do(it: Subject) -> None:
    scene = it.scene
    scene.restart(FAST)
    scene.use(hours=3, seats=True)
    scene.stop_sandbox()
    scene.use(hours=4)
    scene.restart(1)
    with it.page() as page:
        page.wait_for_selector("#advice li")
        answer, advice = page.inner_text("h1"), page.inner_text("#advice")
        expect(answer.startswith("No.") and "held" in answer and "wait" in answer, answer)
        expect("are held as refused" in advice and "tallyman held --product acme-storage" in advice, advice)
        page.wait_for_function("document.querySelector('#advice').innerText.includes('does not reach AWS')")
        expect(page.locator("#hours .strip .h.waiting").count() > 1, "no hour waits")
        expect(page.locator("#hours .strip .h.held").count() > 0, "no hour is held")
        first = page.inner_text("#figures b >> nth=0")
        page.wait_for_function("before => document.querySelector('#figures b').innerText < before", arg=first)
        poor = page.evaluate(CONTRAST)
        expect(not poor, f"hard to read: {poor}")
        expect(not any(account in page.content() for account in ACCOUNTS), "a customer is named")
    with it.page(width=360) as page:
        wide = page.evaluate("document.documentElement.scrollWidth")
        expect(wide <= 360, f"{wide} px on a screen of 360")


def customers_are_named_where_it_is_asked_for(it: Subject) -> None:
    it.scene.show_customers = True
    it.scene.restart(1)
    with it.page() as page:
        expect(ACCOUNTS[0] in page.inner_text("#customers"), "no customer is named")


CHECKS = [
    the_page_loads_without_complaint_and_says_that_all_is_billed,
    a_change_arrives_without_a_reload_and_leaves_alone_what_is_open,
    nothing_stands_out_on_a_phone,
    text_stands_out_by_day_and_by_night,
    it_is_built_for_those_who_do_not_see_it_and_those_who_mind_motion,
    without_javascript_it_says_of_when_it_is_and_asks_again,
    what_is_not_live_is_never_shown_as_live,
    an_outage_shows_what_waits_until_when_and_what_to_do,
    customers_are_named_where_it_is_asked_for,
]


def check(binary: str, folder: Path) -> int:
    scene = Scene(binary, folder, "2026-11-20T22:40:00+00:00", FAST)
    try:
        scene.start_sandbox()
        scene.start_agent()
        scene.use(hours=8)
        scene.restart(1)
        until("all is billed", lambda: scene.answer() == "Yes.")
        with chromium() as browser:
            failed = run(CHECKS, Subject(scene, browser))
        if failed:
            print((folder / "log").read_text()[-4000:])
        return failed
    finally:
        scene.close()


def draw(binary: str, folder: Path, pictures: Path, seconds: int) -> int:
    """The same agent on a good day and on a bad one."""
    scene = Scene(binary, folder, "2026-11-20T10:40:00+00:00", UNHURRIED)
    try:
        scene.start_sandbox()
        scene.start_agent()
        scene.use(hours=49)
        # So that an hour ends, and is billed, before the picture is taken.
        scene.restart(1, minute=60 - max(1, seconds * 4 // 300))
        with chromium() as browser:
            traffic(scene, seconds)
            until("all is billed", lambda: scene.answer() == "Yes.")
            take(browser, scene, pictures / "status-healthy.png")
            scene.restart(UNHURRIED)
            scene.use(hours=4, seats=True)
            scene.stop_sandbox()
            scene.use(hours=21.4)
            scene.restart(1)
            traffic(scene, seconds)
            take(browser, scene, pictures / "status-outage.png")
        return 0
    finally:
        scene.close()


def traffic(scene: Scene, seconds: int) -> None:
    """Usage that swells and ebbs, as that of people does."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        count = int(900 + 500 * sin(left / 23) + 160 * sin(left / 3.1))
        one = threading.Thread(target=scene.emit, args=("acme-storage", "requests", ACCOUNTS[int(left) % len(ACCOUNTS)], 7, count))
        one.start()
        time.sleep(0.5)
        one.join()


def take(browser, scene: Scene, path: Path) -> None:
    context = browser.new_context(viewport={"width": 1000, "height": 800}, color_scheme="light", reduced_motion="reduce")
    page: Page = context.new_page()
    page.goto(scene.url)
    page.wait_for_selector("body[data-live=yes]")
    # The whole page of an outage is long: what comes below is the same in both pictures.
    height = page.evaluate("document.documentElement.scrollHeight")
    if height > 1600:
        height = page.evaluate("document.querySelector('#products').offsetTop - 16")
    page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": 1000, "height": height})
    context.close()
    print(f"{path}: {path.stat().st_size // 1024} KiB")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--seconds", type=int, default=300, help="of traffic before each picture")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.pictures:
            return draw(arguments.binary, Path(folder), arguments.pictures, arguments.seconds)
        return check(arguments.binary, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
