"""Drive every page of the dashboard in a headless Chromium, take pictures of it, and fail on any fault.

    python scripts/screenshots.py --app .venv/bin/foliocast --out screenshots

Needs the package ``playwright`` (the driver only) and any Chromium: the one named by ``CHROMIUM``, one on the PATH, or
playwright's own (``python -m playwright install chromium``). ``make screenshots`` sets the first part up.

A fault is an error on the browser's console, a request to another machine, an exception box, an error message that no
step asked for, or a control that cannot be found. Times are printed: first useful paint from the start of the server,
and each interaction from the click to the last change of the page, beside the CPU time that the server took for it
(which includes what it imports ahead in the background during the first seconds).
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

try:
    from playwright.sync_api import Browser, Locator, Page, sync_playwright
    from playwright.sync_api import TimeoutError as Late
except ImportError:
    sys.exit("playwright is not installed: run `make screenshots`, or `pip install playwright`, then try again")

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
PAGES = {
    "forecast": "Forecast",
    "scenarios": "Scenarios",
    "portfolio": "Portfolio",
    "stress": "Stress",
    "prompt": "Prompt to portfolio",
    "backtest": "Backtest",
    "runs": "Runs",
    "live": "Live",
}
LOOKS = {"light": (1300, "light"), "dark": (1300, "dark"), "phone": (390, "light")}
PLOT = ".js-plotly-plot .main-svg"
QUIET = 350  # milliseconds without a change of the page: it has settled
WATCH = """window.__last = performance.now(); window.__painted = {};
const awaited = {price: '[data-testid=stMetric]', chart: '.js-plotly-plot .main-svg'};
new MutationObserver(() => {
  window.__last = performance.now();
  for (const [name, selector] of Object.entries(awaited)) if (document.querySelector(selector)) {
    delete awaited[name];
    requestAnimationFrame(() => setTimeout(() => { window.__painted[name] = Date.now() / 1000 }));
  }})
  .observe(document, {subtree: true, childList: true, attributes: true, characterData: true});"""
STATE = """() => ({state: document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state'),
  last: window.__last, now: performance.now()})"""
SMALL = """name = "small"
[data]
source = "sample"
start = "2019-01-01"
[strategies.equal_weight]
type = "EqualWeight"
[strategies.inverse_volatility]
type = "InverseVolatility"
"""


@dataclass
class Drive:
    """One browser page that is driven, with what went wrong and how long things took."""

    page: Page
    base: str
    out: Path
    server: int
    faults: list[str] = field(default_factory=list)
    times: list[tuple[str, float]] = field(default_factory=list)
    where: str = ""

    def listen(self) -> Drive:
        """Note errors of the console and requests to other machines."""
        self.page.on("console", lambda m: self.fault(f"console: {m.text}") if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.fault(f"script: {e}"))
        self.page.on("request", lambda r: self._request(r.url))
        self.page.add_init_script(WATCH)
        return self

    def _request(self, url: str) -> None:
        if not url.startswith((self.base, self.base.replace("http", "ws"), "data:", "blob:", "about:")):
            self.fault(f"request to another machine: {url[:120]}")

    def fault(self, text: str) -> None:
        self.faults.append(f"{self.where}: {text}")
        print(f"FAULT {self.faults[-1]}", flush=True)

    def note(self, what: str, wall: float, busy: float) -> None:
        self.times.append((what, wall))
        print(f"{wall:6.2f} s {busy:6.2f} s  {what}", flush=True)

    def settle(self, limit: float = 60.0) -> float:
        """Wait until the script has run and the page rests; the time of its last change (page clock)."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            now = self.page.evaluate(STATE)
            if now["state"] == "notRunning" and now["now"] - now["last"] > QUIET:
                return float(now["last"])
            time.sleep(0.04)
        self.fault(f"the page did not come to rest in {limit:.0f} s")
        return float(self.page.evaluate("performance.now()"))

    def enter(self) -> None:
        """Open the dashboard."""
        self.where = "first page"
        self.page.goto(self.base)
        self.page.wait_for_selector(PLOT, timeout=60_000)
        self.settle()

    def turn_to(self, name: str) -> None:
        """Turn to a page by its link, as a person does; on a phone the menu opens first."""
        self.where = name
        title = PAGES[name]
        link = self.page.locator("[data-testid=stSidebarNavLink]", has_text=title).first
        menu = self.page.locator("[data-testid=stExpandSidebarButton]")
        if menu.count() and menu.first.is_visible():
            self.act("menu", menu.first.click, timed=False)
        self.act("page", lambda: (link.click(), self.page.locator("h1", has_text=title).wait_for(timeout=60_000)))
        shut = self.page.locator("[data-testid=stSidebarCollapseButton] button")
        if self.narrow and shut.count() and shut.first.is_visible():
            self.act("menu", shut.first.click, timed=False)

    def act(
        self, what: str, action: Callable[[], object], timed: bool = True, fits: bool = False, limit: float = 180.0
    ) -> None:
        """Do something, wait, check, and keep how long it took; steps that fit a model are not held to a second."""
        start, before = float(self.page.evaluate("performance.now()")), cpu(self.server)
        try:
            action()
        except Exception as error:
            self.fault(f"{what}: {' '.join(str(error).split())[:400]}")
            return
        time.sleep(0.05)
        end = self.settle(limit)
        if fits:
            what = f"{what} (fits)"
        if timed:
            self.note(f"{self.where}: {what}", max(0.0, end - start) / 1000, cpu(self.server) - before)
        self.check()

    def check(self) -> None:
        """Exception boxes and error messages are faults."""
        for box in self.page.locator("[data-testid=stException]").all():
            self.fault(f"exception box: {box.inner_text()[:200]}")
        for box in self.page.locator("[data-testid=stAlertContentError]").all():
            self.fault(f"error message: {box.inner_text()[:200]}")

    def shot(self, name: str) -> None:
        """A picture of the whole page: the window grows to what the page holds."""
        width = self.page.viewport_size["width"] if self.page.viewport_size else 1300
        height = self.page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
        self.page.set_viewport_size({"width": width, "height": max(700, min(int(height), 5000))})
        self.settle()
        self.page.screenshot(path=str(self.out / f"{name}.png"))
        self.page.set_viewport_size({"width": width, "height": 900})

    @property
    def narrow(self) -> bool:
        return bool(self.page.viewport_size and self.page.viewport_size["width"] < 600)

    # ---- what a person does
    def select(self, label: str, option: str) -> None:
        self.choose(self.page.locator("[data-testid=stSelectbox]", has_text=label).first, option)

    def choose(self, box: Locator, option: str) -> None:
        """Open a select box and take an option; one that has the focus opens by the arrow key."""
        box.locator("input").click()
        wanted = self.page.get_by_role("option", name=option, exact=True).first
        try:
            wanted.wait_for(timeout=400)
        except Late:
            box.locator("input").press("ArrowDown")
        wanted.click()

    def slide(self, label: str, keys: str) -> None:
        self._slider(label).focus()
        for key in keys.split():
            self.page.keyboard.press(key)
        time.sleep(0.25)  # the slider waits for more keys before it tells the server

    def _slider(self, label: str) -> Locator:
        boxes = self.page.locator("[data-testid=stSlider]", has_text=label)
        return boxes.first.get_by_role("slider").first

    def button(self, name: str) -> None:
        self.page.locator("[data-testid=stMain]").get_by_role("button", name=name, exact=True).first.click()

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).first.click()

    def pill(self, name: str) -> None:
        self.page.locator("[data-testid=stButtonGroup]").get_by_text(name, exact=True).first.click()

    def expand(self, name: str) -> None:
        self.page.locator("[data-testid=stExpander] summary", has_text=name).first.click()

    def await_text(self, text: str, otherwise: str, limit: float = 300.0) -> None:
        """Wait for what a job leaves on the page."""
        try:
            self.page.wait_for_selector(f"text={text}", timeout=limit * 1000)
        except Late:
            self.fault(otherwise)
        self.settle()
        self.check()

    def keyboard(self, wanted: int = 8) -> None:
        """Tab through the page: its controls take the focus."""
        self.page.keyboard.press("Escape")
        seen = set()
        for _ in range(60):
            self.page.keyboard.press("Tab")
            seen.add(self.page.evaluate("(e => e ? e.outerHTML.slice(0, 160) : '')(document.activeElement)"))
        if len(seen) < wanted:
            self.fault(f"the Tab key reaches {len(seen)} elements only")


# ---- the pages


def forecast(d: Drive) -> None:
    d.shot("forecast-light")
    d.act("ticker", lambda: d.select("Ticker", "NVDA"))
    d.act("7 days ahead to 4", lambda: d.slide("Trading days ahead", "ArrowLeft ArrowLeft ArrowLeft"))
    d.act("30 days ahead", lambda: d.slide("Trading days ahead", "End"), fits=True)
    d.act("29 days ahead", lambda: d.slide("Trading days ahead", "ArrowLeft"))
    d.act("730 days of history", lambda: d.slide("Days of history", "End"))
    d.act("model", lambda: d.select("Model", "Naive (persistence)"))
    d.act("data", lambda: _data(d, "Twenty S&P 500 stocks"), fits=True)
    d.act("data back", lambda: _data(d, "Six technology stocks"))
    d.act("model card", lambda: d.expand("Model card"))
    d.act("attention LSTM, offered", lambda: d.select("Model", "Attention LSTM"))
    d.act("attention LSTM", lambda: d.button("Fit Attention LSTM now"), fits=True, limit=400)
    d.act("another ticker of the network", lambda: d.select("Ticker", "AAPL"))
    if not d.page.get_by_text("Where it looked").count():
        d.fault("no attention was shown")
    d.shot("forecast-attention-light")


def _data(d: Drive, name: str) -> None:
    d.choose(d.page.locator("[data-testid=stSidebar] [data-testid=stSelectbox]").first, name)


def scenarios(d: Drive) -> None:
    d.act("event on", lambda: d.page.get_by_text("Fix an event").click())
    d.act("event stronger", lambda: d.slide("returns over", "ArrowLeft ArrowLeft ArrowLeft"))
    d.shot("scenarios-light")
    d.act("asset of the fan", lambda: d.pill("META"))
    d.act("t copula", lambda: d.select("Scenario model", "Student t copula"))
    d.act("horizon", lambda: d.slide("Bars ahead", "ArrowRight ArrowRight"))
    for name in ("Joint", "Correlation", "Table", "Fill in"):
        d.act(name, lambda name=name: d.tab(name))
        d.shot(f"scenarios-{name.lower().replace(' ', '-')}-light")
    d.act("diffusion", lambda: d.select("Scenario model", "Diffusion, pretrained"))
    d.act("Scorecard", lambda: d.tab("Scorecard"))
    d.act("back to history", lambda: d.select("Scenario model", "Filtered historical simulation"))
    d.act("score", lambda: d.button("Score"))
    d.await_text("Diebold-Mariano against", "the scorecard did not come")
    d.shot("scenarios-scorecard-light")


def portfolio(d: Drive) -> None:
    d.shot("portfolio-light")
    d.act("objective", lambda: d.select("Objective", "Return less risk"))
    d.act("risk", lambda: d.select("Risk", "Volatility"))
    d.act("limits", lambda: d.expand("Limits and costs"))
    d.act("largest weight", lambda: d.slide("Largest weight", "ArrowLeft ArrowLeft"))
    for name in ("Frontier", "Kelly", "Risk", "Present book"):
        d.act(name, lambda name=name: d.tab(name))
        d.shot(f"portfolio-{name.lower().replace(' ', '-')}-light")
    book = {"name": "mine.csv", "mimeType": "text/csv", "buffer": b"asset,weight\nNVDA,0.5\nMETA,0.3\n"}
    d.act("upload", lambda: d.page.locator("input[type=file]").set_input_files(book))
    d.act("use the file", lambda: d.button("Use this file"))
    d.act("Proposal", lambda: d.tab("Proposal"))
    d.act("take the proposal", lambda: d.button("Take this book"))


def stress(d: Drive) -> None:
    d.shot("stress-light")
    d.act("event", lambda: d.slide("returns, %", "ArrowLeft ArrowLeft"))
    for name in ("Event", "Factor shock", "Reverse", "Who carries the risk", "Correlations"):
        d.act(name, lambda name=name: d.tab(name))
        d.shot(f"stress-{name.lower().replace(' ', '-')}-light")


def prompt(d: Drive) -> None:
    d.shot("prompt-light")
    d.act("a prompt of one's own", lambda: _say(d, "growth, technology=40%, 25 names, Jun 2022"))
    d.act("another sample", lambda: d.pill("Sample 2"))
    for name in ("Out of noise", "What moved it", "Nearest real funds"):
        d.act(name, lambda name=name: d.tab(name))
        d.shot(f"prompt-{name.lower().replace(' ', '-')}-light")
        if name == "Out of noise":
            d.act("animation", lambda: d.page.locator(".updatemenu-button").first.click(), timed=False)
    d.act("Holdings", lambda: d.tab("Holdings"))
    d.act("use as book", lambda: d.button("Use as book"))


def _say(d: Drive, text: str) -> None:
    box = d.page.get_by_role("textbox", name="Prompt")
    box.fill(text)
    box.press("Enter")


def backtest(d: Drive) -> None:
    d.act("config", lambda: d.expand("Config (TOML)"))
    d.act("edit", lambda: _write(d, SMALL))
    d.act("run", lambda: d.button("Run"), limit=20)
    d.page.wait_for_selector("text=running", timeout=20_000)
    d.shot("backtest-running-light")
    d.act("cancel", lambda: d.button("Cancel"), limit=20)
    d.page.wait_for_selector("text=cancelled", timeout=20_000)
    d.act("resume", lambda: d.button("Resume"), limit=20)
    d.await_text("trials counted", "the job did not end")
    d.shot("backtest-light")


def _write(d: Drive, text: str) -> None:
    area = d.page.get_by_role("textbox", name="Config (TOML)")
    area.fill(text)
    area.press("Control+Enter")


def runs(d: Drive) -> None:
    if not d.page.get_by_text("Sharpe ratios").count():
        d.fault("the finished run is not shown")
    d.shot("runs-light")
    d.act("report", lambda: d.expand("Report of"))
    d.shot("runs-report-light")
    d.act("explain", lambda: d.button("Explain what drove it"))
    d.await_text("Tables are in", "the explanation did not end")
    d.shot("runs-explained-light")
    for name in ("Records", "Models"):
        d.act(name, lambda name=name: d.tab(name))


def live(d: Drive) -> None:
    d.shot("live-light")


# ---- the whole


def chromium() -> str | None:
    """Path of a Chromium; None leaves the choice to playwright; the program ends where there is none."""
    named = os.environ.get("CHROMIUM")
    found = named or next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found and Path(found).exists():
        return found
    with sync_playwright() as play:
        if Path(play.chromium.executable_path).exists():
            return None
    sys.exit(
        "no Chromium was found: install one (`apt install chromium`, or `python -m playwright install chromium` with "
        "the python that runs this), or set CHROMIUM to its path"
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(app: str, folder: Path) -> Iterator[tuple[str, int, float]]:
    """The dashboard in a home and a working folder of its own: its address, process id and time of start."""
    environment = {
        **os.environ,
        "FOLIOCAST_HOME": str(folder / "home"),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a first start compiles, later ones read: both are timed
    port, began = free_port(), time.monotonic()
    command = [str(Path(app).absolute()), "app", "--headless", "--port", str(port)]
    with (folder / "app.log").open("ab") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{port}", server.pid, began
        finally:
            server.terminate()
            server.wait(10)


def await_port(port: int, limit: float = 30.0) -> None:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 0.2):
                return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"the dashboard did not open port {port} in {limit:.0f} s")


def cpu(process: int) -> float:
    """Seconds of CPU a process has had; NaN where the system does not tell."""
    try:
        ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return float("nan")
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def await_idle(process: int, limit: float = 120.0) -> None:
    """Wait until a process hardly works."""
    end, before = time.monotonic() + limit, cpu(process)
    while time.monotonic() < end:
        time.sleep(2.0)
        now = cpu(process)
        if not now - before > 0.1:
            return
        before = now


def new_page(browser: Browser, base: str, out: Path, server: int, look: str) -> Drive:
    width, scheme = LOOKS[look]
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, has_touch=look == "phone"
    )
    return Drive(context.new_page(), base, out, server).listen()


def first_paint(drive: Drive, began: float, what: str) -> None:
    """Open the dashboard once its port is there; note when the price, the first chart and the whole page stand."""
    await_port(int(drive.base.rpartition(":")[2]))
    drive.where = what
    drive.page.goto(drive.base, wait_until="commit")
    for key, name in (("price", "first useful paint (the price)"), ("chart", "first chart")):
        drive.page.wait_for_function(f"window.__painted?.{key}", timeout=60_000)
        painted = float(drive.page.evaluate(f"window.__painted.{key}"))  # by the page's own clock: it may be busy since
        drive.note(f"{what}: {name}", painted - time.time() + time.monotonic() - began, cpu(drive.server))
    drive.settle()
    drive.note(f"{what}: page complete", time.monotonic() - began, cpu(drive.server))


def walk(browser: Browser, base: str, out: Path, server: int, names: list[str], began: float) -> list[Drive]:
    """First paint, then every page step by step in light, then all of them in dark and at phone width."""
    steps = {f.__name__: f for f in (forecast, scenarios, portfolio, stress, prompt, backtest, runs, live)}
    first = new_page(browser, base, out, server, "light")
    first_paint(first, began, "start")
    for name in names:
        first.turn_to(name)
        steps[name](first)
        first.keyboard()
    first.page.close()
    drives = [first]
    for look in ("dark", "phone"):
        other = new_page(browser, base, out, server, look)
        other.enter()
        for name in names:
            other.turn_to(name)
            other.shot(f"{name}-{look}")
            wide = other.page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth - innerWidth")
            if look == "phone" and wide > 0:
                other.fault(f"{wide} pixels wider than the phone")
        other.page.close()
        drives.append(other)
    return drives


def main() -> int:
    """Run all of it; exit 1 on any fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--app", default=".venv/bin/foliocast", help="the foliocast program")
    parser.add_argument("--out", type=Path, default=Path("screenshots"))
    parser.add_argument("--pages", default=",".join(PAGES), help="which pages, separated by commas")
    chosen = parser.parse_args()
    path = chromium()
    out: Path = chosen.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    print("   wall  server's CPU", flush=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=FLAGS)
        drives: list[Drive] = []
        try:
            with serving(chosen.app, Path(folder)) as (base, server, began):
                cold = new_page(browser, base, out, server, "light")
                first_paint(cold, began, "very first start, which compiles")
                await_idle(server)  # it imports ahead what other pages need, and this once compiles it, too
                cold.page.close()
            names = [name for name in PAGES if name in chosen.pages.split(",")]
            with serving(chosen.app, Path(folder)) as (base, server, began):
                drives = [cold, *walk(browser, base, out, server, names, began)]
        finally:
            browser.close()
            shutil.copy(Path(folder) / "app.log", out / "app.log")
    times = [seconds for d in drives for what, seconds in d.times if "start" not in what and "(fits)" not in what]
    faults = [fault for d in drives for fault in d.faults]
    slow = sum(seconds > 1.0 for seconds in times)
    print(f"{len(times)} interactions, median {sorted(times)[len(times) // 2]:.2f} s, {slow} above 1 s")
    print(f"{len(list(out.glob('*.png')))} pictures in {out}; {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
