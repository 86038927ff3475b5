// Keeps the queue and the card as they are on the server, counts down by the server's clock, and takes the keyboard.
// Without JavaScript both pages are whole: a reload shows what is new.
"use strict";

(() => {
  const root = document.querySelector("[data-atom-live]");
  const LOOK_MILLISECONDS = 1000;
  const HIDDEN_MILLISECONDS = 5000;
  const TROUBLE_MILLISECONDS = 5000;

  // The server's time, carried on by a clock that no person sets.
  const clock = { at: performance.now(), now: null };
  const setClock = (milliseconds) => {
    if (!milliseconds) return;
    clock.now = Number(milliseconds);
    clock.at = performance.now();
  };
  const serverNow = () => clock.now + performance.now() - clock.at;

  const two = (number) => String(number).padStart(2, "0");
  const shown = (milliseconds) => {
    const seconds = Math.max(0, Math.floor(milliseconds / 1000));
    const minutes = Math.floor(seconds / 60);
    if (minutes < 60) return `${minutes}:${two(seconds % 60)}`;
    return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}`;
  };
  const countDown = () => {
    if (clock.now === null) return;
    for (const time of document.querySelectorAll("[data-atom-until]")) {
      const left = Number(time.dataset.atomUntil) - serverNow();
      time.textContent = shown(left);
      time.classList.toggle("atom-soon", left < 60_000);
    }
  };

  // What changed. A list keeps the rows that are as they were, so that nothing moves under a finger.
  const isBusy = (element) => {
    const active = document.activeElement;
    return element.contains(active) && active.matches("input[type=text], textarea, select") && active.value !== "";
  };
  const replace = (old, fresh) => {
    if (old.dataset.atomVersion === fresh.dataset.atomVersion || isBusy(old)) return;
    const hadFocus = old.contains(document.activeElement) && old === document.activeElement;
    const isOpen = old.querySelector("details[open]") !== null;
    old.replaceWith(fresh);
    if (isOpen) fresh.querySelector("details")?.setAttribute("open", "");
    if (hadFocus) fresh.focus();
  };
  const mergeList = (old, fresh) => {
    const wanted = new Map([...fresh.children].map((child) => [child.id, child]));
    const known = new Set([...old.children].map((child) => child.id));
    for (const child of [...old.children]) {
      if (wanted.has(child.id)) replace(child, wanted.get(child.id));
      else if (!isBusy(child)) child.remove();
      else child.classList.add("atom-gone");
    }
    let before = old.firstElementChild;
    for (const [id, child] of wanted) {
      const here = known.has(id) ? document.getElementById(id) : child;
      if (!here) continue;
      if (here === before) before = before.nextElementSibling;
      else old.insertBefore(here, before);
    }
    return [...wanted.values()].filter((child) => !known.has(child.id));
  };
  const take = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    let arrived = [];
    for (const fresh of [...holder.content.children]) {
      const old = document.getElementById(fresh.id);
      if (!old) continue;
      if (fresh.hasAttribute("data-atom-list")) arrived = arrived.concat(mergeList(old, fresh));
      else replace(old, fresh);
    }
    return arrived;
  };

  // The number, where people see it without looking: in the title and on the tab's picture.
  const title = document.title.replace(/^\(\d+\+?\) /, "");
  const badge = () => {
    const holder = document.getElementById("queue-count");
    if (!holder) return;
    const count = holder.textContent.trim();
    document.title = count === "0" ? title : `(${count}) ${title}`;
    const icon = document.querySelector("link[rel=icon]");
    if (!icon) return;
    icon.dataset.atomPlain ||= icon.href;
    const digits = count.length > 2 ? "99" : count;
    const drawn =
      '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#b3261e"/>' +
      '<text x="16" y="23" font-family="sans-serif" font-weight="700" font-size="20" text-anchor="middle" fill="#fff">' +
      `${digits.replace(/\D/g, "")}</text></svg>`;
    icon.href = count === "0" ? icon.dataset.atomPlain : `data:image/svg+xml,${encodeURIComponent(drawn)}`;
  };

  // What came since the page last looked is newer than all that waited then: ids begin with their time.
  const newestId = () => document.getElementById("queue-summary")?.dataset.atomNewest || "";
  let newest = newestId();

  // A notification of the browser's, where a person asked for them. Many that come together make one.
  const NOTIFY = "atom-notify";
  const canNotify = "Notification" in window && window.isSecureContext;
  const wantsNotices = () => canNotify && Notification.permission === "granted" && localStorage.getItem(NOTIFY) === "1";
  const notify = (arrived) => {
    const before = newest;
    newest = newestId();
    if (newest <= before || !wantsNotices()) return;
    // A row that only moved up from the next page is not new, and what is new may be on another page.
    const rows = arrived.filter((row) => row.id > `session-${before}`);
    const single = rows.length === 1 && rows[0].id === `session-${newest}` ? rows[0] : null;
    const isCounted = rows.some((row) => row.id === `session-${newest}`);
    const many = `${isCounted ? `${rows.length} new` : "New"} requests wait for a decision.`;
    const notice = new Notification("Atom Local Agent", {
      body: single ? single.dataset.atomNotice : many,
      tag: single ? single.id : "atom-queue",
    });
    notice.addEventListener("click", () => {
      window.focus();
      if (single) window.location.assign(single.dataset.atomCard);
    });
  };
  const bell = document.querySelector("[data-atom-bell]");
  const drawBell = () => {
    bell.hidden = !canNotify || Notification.permission === "denied";
    bell.setAttribute("aria-pressed", String(wantsNotices()));
    bell.textContent = wantsNotices() ? "Notifications on" : "Notify me";
  };
  if (bell) {
    drawBell();
    bell.addEventListener("click", async () => {
      if (wantsNotices()) localStorage.removeItem(NOTIFY);
      else if ((await Notification.requestPermission()) === "granted") localStorage.setItem(NOTIFY, "1");
      drawBell();
    });
  }

  // The keyboard, on the queue. A row is chosen before anything can be done to it.
  const list = document.getElementById("queue-rows");
  const help = document.getElementById("queue-help");
  const rows = () => [...list.querySelectorAll("[data-atom-card]")];
  const chosen = () => list.querySelector("[data-atom-card][aria-current=true]");
  const choose = (row) => {
    chosen()?.removeAttribute("aria-current");
    if (!row) return;
    row.setAttribute("aria-current", "true");
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  };
  const step = (by) => {
    const all = rows();
    const place = all.indexOf(chosen());
    choose(all[place < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, place + by))]);
  };
  const KEYS = {
    j: () => step(1),
    k: () => step(-1),
    o: () => chosen() && window.location.assign(chosen().dataset.atomCard),
    a: () => chosen()?.querySelector("[data-atom-approve]")?.click(),
    r: () => chosen() && window.location.assign(`${chosen().dataset.atomCard}?reject#reject`),
    "?": () => help && (help.open ? help.close() : help.showModal()),
  };
  KEYS.Enter = KEYS.o;
  if (list) {
    document.addEventListener("keydown", (event) => {
      const at = event.target;
      const isTyping = at.matches("input, textarea, select, [contenteditable]");
      const isControl = event.key === "Enter" && at.matches("a, button, summary");
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isTyping || isControl) return;
      if (help?.open && event.key !== "?") return;
      const act = KEYS[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
    list.addEventListener("focusin", (event) => {
      const row = event.target.closest("[data-atom-card]");
      if (row && row !== chosen()) {
        chosen()?.removeAttribute("aria-current");
        row.setAttribute("aria-current", "true");
      }
    });
    const opener = document.querySelector("[data-atom-help]");
    if (opener) {
      opener.hidden = false;
      opener.addEventListener("click", () => help.showModal());
    }
  }

  setClock(document.querySelector("[data-atom-now]")?.dataset.atomNow);
  countDown();
  window.setInterval(countDown, 1000);
  if (!root) return;

  const trouble = document.getElementById("live-trouble");
  let tag = root.dataset.atomTag || "";
  let timer = 0;
  const look = async () => {
    window.clearTimeout(timer);
    let pause = document.hidden ? HIDDEN_MILLISECONDS : LOOK_MILLISECONDS;
    try {
      const headers = tag ? { "If-None-Match": tag } : {};
      const response = await fetch(root.dataset.atomLive, { headers, credentials: "same-origin", cache: "no-store" });
      if (response.redirected || response.status === 403) {
        // Logged out, or the permission is gone: the page itself says so.
        window.location.reload();
        return;
      }
      setClock(response.headers.get("X-Atom-Now"));
      if (response.status === 200) {
        tag = response.headers.get("ETag") || "";
        notify(take(await response.text()));
        badge();
        countDown();
      } else if (response.status !== 304) throw new Error(String(response.status));
      if (trouble) trouble.hidden = true;
      if (document.querySelector("[data-atom-over]")) return;
    } catch {
      if (trouble) trouble.hidden = false;
      pause = TROUBLE_MILLISECONDS;
    }
    timer = window.setTimeout(look, pause);
  };
  document.addEventListener("visibilitychange", () => document.hidden || look());
  badge();
  timer = window.setTimeout(look, LOOK_MILLISECONDS);
})();
