// Replays the output of a session at the speed that is chosen. Without JavaScript the page shows all of it.
"use strict";

(() => {
  const stage = document.querySelector("[data-atom-replay]");
  if (!stage) return;
  const LONGEST_PAUSE = 2000;
  const screen = document.querySelector(".atom-screen");
  const frames = [...document.querySelectorAll("[data-atom-at]")];
  // When each frame comes, with long pauses cut.
  let before = 0;
  let clock = 0;
  const times = frames.map((frame) => {
    const at = Number(frame.dataset.atomAt);
    clock += Math.min(at - before, LONGEST_PAUSE);
    before = at;
    return clock;
  });
  const length = clock;
  let position = length;
  let speed = 1;
  let last = 0;
  let isPlaying = false;

  const button = document.createElement("button");
  button.type = "button";
  button.className = "atom-button atom-primary";
  const choice = document.createElement("select");
  choice.setAttribute("aria-label", "Speed");
  for (const value of [0.5, 1, 2, 4, 16]) {
    const option = document.createElement("option");
    option.value = String(value);
    option.textContent = `${value}×`;
    option.selected = value === 1;
    choice.append(option);
  }
  const bar = document.createElement("input");
  bar.type = "range";
  bar.min = "0";
  bar.max = String(length);
  bar.step = "10";
  bar.setAttribute("aria-label", "Position");
  const label = document.createElement("span");
  label.className = "atom-quiet";
  stage.append(button, choice, bar, label);

  const show = () => {
    frames.forEach((frame, index) => {
      frame.hidden = times[index] > position;
    });
    bar.value = String(position);
    label.textContent = `${(position / 1000).toFixed(1)} of ${(length / 1000).toFixed(1)} s`;
    button.textContent = isPlaying ? "Pause" : "Replay";
    if (isPlaying) screen.scrollTop = screen.scrollHeight;
  };

  const tick = (now) => {
    if (!isPlaying) return;
    position = Math.min(length, position + (now - last) * speed);
    last = now;
    if (position >= length) isPlaying = false;
    show();
    if (isPlaying) window.requestAnimationFrame(tick);
  };

  button.addEventListener("click", () => {
    isPlaying = !isPlaying;
    if (isPlaying && position >= length) position = 0;
    last = window.performance.now();
    show();
    if (isPlaying) window.requestAnimationFrame(tick);
  });
  choice.addEventListener("change", () => {
    speed = Number(choice.value);
  });
  bar.addEventListener("input", () => {
    isPlaying = false;
    position = Number(bar.value);
    show();
  });
  show();
})();
