// Follows the output of a command that runs, on the page of its session. Without JavaScript the page has a link that
// loads it again.
"use strict";

(() => {
  const card = document.querySelector("[data-atom-follow]");
  if (!card) return;
  const WAIT_SECONDS = 20;
  const PAUSE_MILLISECONDS = 500;
  const TROUBLE_MILLISECONDS = 5000;
  // What cannot be seen is shown as an escape, as the page itself does; line ends and tabs stay.
  const UNSEEN = /[^\P{C}\n\t]|[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2028\u2029\u2800\u3164\ufe00-\ufe0f\uffa0]|(?! )\p{Zs}/gu;
  const streams = [...card.querySelectorAll("[data-atom-stream]")].map((block) => ({
    block,
    name: block.dataset.atomStream,
    next: Number(block.dataset.atomNext),
  }));
  const again = card.querySelector("[data-atom-again]");
  again.textContent = "Following…";

  const escaped = (character) => {
    const short = { "\r": "\\r" }[character];
    if (short) return short;
    const point = character.codePointAt(0);
    const digits = (size) => point.toString(16).padStart(size, "0");
    if (point < 0x100) return `\\x${digits(2)}`;
    return point < 0x10000 ? `\\u${digits(4)}` : `\\U${digits(8)}`;
  };

  const append = (block, text) => {
    const isAtEnd = block.scrollTop + block.clientHeight >= block.scrollHeight - 4;
    let start = 0;
    for (const match of text.matchAll(UNSEEN)) {
      block.append(text.slice(start, match.index));
      const span = document.createElement("span");
      span.className = "atom-escape";
      span.textContent = escaped(match[0]);
      block.append(span);
      start = match.index + match[0].length;
    }
    block.append(text.slice(start));
    if (isAtEnd) block.scrollTop = block.scrollHeight;
  };

  const take = (stream, answer) => {
    for (const part of answer[stream.name]) {
      if (part.offset > stream.next) append(stream.block, `\n[... ${part.offset - stream.next} bytes cut ...]\n`);
      append(stream.block, part.text);
      const count = card.querySelector(`[data-atom-bytes="${stream.name}"]`);
      count.textContent = Number(count.textContent) + part.bytes;
      card.querySelector(`[data-atom-empty="${stream.name}"]`)?.remove();
      stream.next = part.offset + part.bytes;
    }
    stream.next = answer.next[stream.name];
  };

  const follow = async () => {
    const offset = (name) => streams.find((stream) => stream.name === name).next;
    const url = new URL(card.dataset.atomFollow, window.location.href);
    url.search = `after=${offset("stdout")},${offset("stderr")}&wait_seconds=${WAIT_SECONDS}`;
    let pause = PAUSE_MILLISECONDS;
    try {
      const response = await fetch(url, { headers: { Accept: "application/json" }, credentials: "same-origin" });
      if (response.status >= 400 && response.status < 500 && response.status !== 429) {
        again.textContent = "Load again";
        return;
      }
      if (!response.ok) throw new Error(String(response.status));
      const answer = await response.json();
      streams.forEach((stream) => take(stream, answer));
      if (answer.finished) {
        window.location.reload();
        return;
      }
      again.textContent = "Following…";
    } catch {
      again.textContent = "The server does not answer; trying again. Load again";
      pause = TROUBLE_MILLISECONDS;
    }
    window.setTimeout(follow, pause);
  };

  follow();
})();
