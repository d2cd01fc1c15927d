// What the pages do besides being pages. Without this file they work as links and forms.
// Nothing here makes HTML of what a stranger sent: the server has escaped it, and the policy of the page runs no script in it.

const root = document.documentElement;
root.classList.add("scripted");
const one = (wanted, within = document) => within.querySelector(wanted);
const all = (wanted, within = document) => [...within.querySelectorAll(wanted)];
const isTyping = (element) => Boolean(element?.matches("input:not([type=radio], [type=checkbox], [type=range]), textarea, select"));

// Times

const STEPS = [[2 * 86400, 86400, "d"], [2 * 3600, 3600, "h"], [120, 60, "min"], [0, 1, "s"]];
const served = Number(root.dataset.now) * 1000;
const ahead = served ? served - Date.now() : 0; // of our clock, the store's is

function relative(at) {
  const seconds = (Date.now() + ahead - at) / 1000;
  const size = Math.abs(seconds);
  if (size < 1) return "now";
  const [, unit, name] = STEPS.find(([least]) => size >= least);
  const told = `${Math.max(1, Math.floor(size / unit))} ${name}`;
  return seconds > 0 ? `${told} ago` : `in ${told}`;
}

function tellTimes(within = document) {
  for (const time of all("time[datetime]", within)) {
    const at = Date.parse(time.dateTime);
    if (!time.dataset.local) {
      time.dataset.local = "yes";
      time.title += `\n${new Date(at).toLocaleString()} here`;
      time.dataset.relative = "fixed" in time.dataset ? "" : "yes";
    }
    if (time.dataset.relative) time.textContent = relative(at);
  }
}

// Looking again: the same page, and what is in #live of it takes the place of what is here

const fresh = one("#fresh");
let isPaused = false;
let looked = Date.now();

function tellFresh(text, state = "") {
  fresh.classList.toggle("stopped", state === "stopped");
  fresh.classList.toggle("failed", state === "failed");
  one("[data-fresh-text]", fresh).textContent = text;
}

function isBusy(live) {
  const active = document.activeElement;
  const chosen = getSelection();
  return Boolean(one("dialog[open]")) || (live.contains(active) && isTyping(active)) ||
    (!chosen.isCollapsed && live.contains(chosen.anchorNode));
}

// Where the focus was, so that it is there again: the link with this address, or the heading with this text.
function markOf(element) {
  if (element?.matches("a[href]")) return (other) => other.getAttribute("href") === element.getAttribute("href");
  if (element?.matches("summary")) return (other) => other.matches("summary") && other.textContent === element.textContent;
  return element?.id ? (other) => other.id === element.id : null;
}

function swap(live, page) {
  const next = page.getElementById("live");
  if (!next) return location.reload();
  const open = new Set(all("details[open] > summary", live).map((each) => each.textContent));
  const closed = new Set(all("details:not([open]) > summary", live).map((each) => each.textContent));
  const mark = live.contains(document.activeElement) ? markOf(document.activeElement) : null;
  const scrolled = all(".scrolls", live).map((each) => each.scrollLeft);
  live.replaceChildren(...next.childNodes);
  for (const summary of all("details > summary", live)) {
    if (open.has(summary.textContent)) summary.parentElement.open = true;
    if (closed.has(summary.textContent)) summary.parentElement.open = false;
  }
  all(".scrolls", live).forEach((each, at) => { each.scrollLeft = scrolled[at] ?? 0; });
  if (mark) all("a[href], summary, [id]", live).find(mark)?.focus({ preventScroll: true });
  tellTimes(live);
}

async function look() {
  const live = one("#live");
  if (isPaused || document.hidden || isBusy(live)) return;
  try {
    const answer = await fetch(location.href, { headers: { "x-console": "live" }, signal: AbortSignal.timeout(10000) });
    if (answer.status === 401) return location.reload();
    if (!answer.headers.get("content-type")?.startsWith("text/html")) throw new Error(String(answer.status));
    if (answer.status === 429) throw new Error("too many requests");
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    // The store has gone or come back: the whole page is another one.
    if (page.title !== document.title) return location.reload();
    if (isPaused || isBusy(live)) return;
    swap(live, page);
    looked = Date.now();
    tellFresh("Up to date");
  } catch {
    tellFresh(`No answer; this is from ${relative(looked + ahead)}`, "failed");
  }
}

function pause(button) {
  isPaused = !isPaused;
  for (const each of all("[data-pause]")) {
    each.setAttribute("aria-pressed", String(isPaused));
    each.textContent = isPaused ? "Go on" : "Pause";
  }
  if (fresh) {
    tellFresh(isPaused ? "Stopped" : "Up to date", isPaused ? "stopped" : "");
    if (!isPaused) look();
  }
  button?.dispatchEvent(new Event("paused", { bubbles: true }));
}

async function keepLooking() {
  for (;;) {
    await new Promise((resolve) => { setTimeout(resolve, Number(fresh.dataset.every) * 1000); });
    await look();
  }
}

// Dialogs: a link to a page with a form shows the form here

const asked = one("#asked");

async function ask(link) {
  try {
    const answer = await fetch(link.href, { headers: { "x-console": "live" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const form = page.getElementById("form");
    if (!answer.ok || !form) { location.href = link.href; return; }
    const heading = document.createElement("h2");
    heading.textContent = form.dataset.title;
    asked.setAttribute("aria-label", form.dataset.title);
    asked.firstElementChild.replaceChildren(heading, document.adoptNode(form));
    asked.showModal();
    one("[autofocus]", form)?.focus();
    one("[autofocus]", form)?.select?.();
    tellTimes(asked);
  } catch {
    location.href = link.href;
  }
}

// The live stream

function follow(stream) {
  const rows = one("#verdicts tbody");
  const most = Number(stream.dataset.most);
  const tell = (text, state = "") => {
    stream.classList.toggle("stopped", state === "stopped");
    stream.classList.toggle("failed", state === "failed");
    one("[data-fresh-text]", stream).textContent = text;
  };
  const waiting = [];
  let missed = 0;
  const put = () => {
    if (isPaused || !waiting.length) return;
    const made = document.createElement("template");
    made.innerHTML = waiting.splice(0).reverse().join("");
    for (const row of made.content.children) row.classList.add("new");
    tellTimes(made.content);
    rows.prepend(made.content);
    while (rows.children.length > most) rows.lastElementChild.remove();
    one("#none-yet").hidden = true;
  };
  const source = new EventSource(stream.dataset.stream);
  source.addEventListener("open", () => tell("Live"));
  source.addEventListener("verdict", (event) => {
    waiting.push(event.data);
    if (waiting.length > most) { waiting.shift(); missed += 1; }
    if (isPaused) tell(`Stopped; ${waiting.length}${missed ? " or more" : ""} waiting`, "stopped");
  });
  source.addEventListener("away", () => tell("The store does not answer; verdicts go on when it does", "failed"));
  source.addEventListener("back", () => tell("Live"));
  source.addEventListener("error", () => {
    tell("No answer; trying again", "failed");
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
  });
  document.addEventListener("paused", () => {
    tell(isPaused ? "Stopped" : "Live", isPaused ? "stopped" : "");
    missed = 0;
    put();
  });
  setInterval(put, 250);
  addEventListener("pagehide", () => source.close());
}

// Rows by keyboard

function step(by) {
  const rows = all("main [data-row]").filter((each) => each.offsetParent);
  const at = rows.indexOf(document.activeElement);
  rows[Math.min(Math.max(at + by, 0), rows.length - 1)]?.focus();
}

const KEYS = {
  "/": () => { one("#find")?.focus(); one("#find")?.select(); },
  j: () => step(1),
  k: () => step(-1),
  p: () => { const button = one("[data-pause]"); if (button) pause(button); },
  "?": () => one("#keys")?.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || one("dialog[open]")) return;
  if (!(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
});

document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-dialog]");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
    event.preventDefault();
    await ask(link);
    return;
  }
  if (event.target.closest("dialog [data-cancel]") || event.target === asked) { event.preventDefault(); asked.close(); return; }
  const button = event.target.closest("[data-pause]");
  if (button) pause(button);
  const copied = event.target.closest("[data-copy]");
  if (copied) {
    try {
      await navigator.clipboard.writeText(copied.dataset.copy);
      copied.textContent = "Copied";
    } catch { getSelection().selectAllChildren(one("#name")); }
  }
  const account = one(".account[open]");
  if (account && !account.contains(event.target)) account.open = false;
});

// A link that is a button by its role is pressed with the space bar as well.
document.addEventListener("keydown", (event) => {
  if (event.key === " " && event.target.matches?.("a[role=button]")) { event.preventDefault(); event.target.click(); }
});

document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-auto]");
  if (!form || (isTyping(event.target) && !event.target.matches("select"))) return;
  for (const each of all("input", form)) if (!each.value && each.type !== "radio") each.disabled = true;
  form.requestSubmit();
});

document.addEventListener("input", (event) => {
  if (event.target.id !== "ago") return;
  const { value, dataset } = event.target;
  const at = new Date((Number(dataset.now) + Number(value) * 60) * 1000);
  one("#ago-told").textContent = Number(value) ? `${at.toISOString().slice(0, 16).replace("T", " ")} UTC` : "now";
});

// Light and dark, without loading the page again
document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-theme-form]")) return;
  event.preventDefault();
  const theme = event.submitter.value;
  if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `reputon-theme=${theme}; path=/console; max-age=31536000; samesite=strict${secure}`;
  for (const each of all("[data-theme-form] button")) each.setAttribute("aria-pressed", String(each === event.submitter));
});

// Where the browser has kept the page as it was left
addEventListener("pageshow", () => { for (const each of all("[data-auto] input:disabled")) each.disabled = false; });

// A notice is said once
const here = new URL(location.href);
if (here.searchParams.has("said")) {
  here.searchParams.delete("said");
  history.replaceState(null, "", here);
}

one(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
tellTimes();
setInterval(() => { if (!document.hidden) tellTimes(); }, 5000);
if (fresh && one("#live")) keepLooking();
if (one("#stream")) follow(one("#stream"));
