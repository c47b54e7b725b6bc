// One axis of seconds under the video: the truth, and an answer a row; clicking and dragging seek.

import { fill, svg } from "window/dom";
import { seconds, ticks } from "window/format";

const ROW = 20;
const AXIS = 22;
const STEP = 0.5;

/**
 * A time line.
 *
 * rows: [{key, label, title, colour, spans: [[start, end]], cells: [share] or null}], drawn from top to bottom; cells share the time
 * evenly. onSeek(seconds), onPick(key) and onSpan(span) of a bar are called as the user points.
 */
export function timeline({ rows, duration, onSeek, onPick, onSpan = null }) {
  const element = svg("svg", {
    class: "timeline",
    role: "slider",
    tabindex: 0,
    "aria-label": "time in the video",
    "aria-valuemin": 0,
    "aria-valuemax": duration,
    height: rows.length * ROW + AXIS,
  });
  const head = svg("line", { class: "head", y1: 0, y2: rows.length * ROW + 4 });
  const spans = new WeakMap();
  let pressed = null;
  let now = 0;
  let picked = null;
  let width = 0;
  let gutter = 0;

  const across = (time) => gutter + (Math.min(Math.max(time, 0), duration) / duration) * (width - gutter);

  function draw() {
    width = Math.max(element.parentElement?.clientWidth ?? 0, 200);
    gutter = width < 520 ? 64 : 104;
    element.setAttribute("width", width);
    element.setAttribute("viewBox", `0 0 ${width} ${rows.length * ROW + AXIS}`);
    fill(element, rows.map(drawRow), ...drawAxis(), head);
    setTime(now);
  }

  function drawRow(row, place) {
    const y = place * ROW;
    const bars = row.spans.map((span) => {
      const left = across(Math.min(...span));
      const drawn = bar(row, left, Math.max(across(Math.max(...span)) - left, 2), y, 1);
      spans.set(drawn, span);
      return drawn;
    });
    const cells = (row.cells ?? []).map((share, index, all) => {
      const left = across((duration * index) / all.length);
      return bar(row, left + 0.5, Math.max(across((duration * (index + 1)) / all.length) - left - 1, 1), y, 0.08 + 0.92 * share);
    });
    return svg(
      "g",
      { class: row.key === picked ? "row picked" : "row", "data-key": row.key },
      svg("rect", { class: "ground", x: 0, y, width, height: ROW }),
      svg("line", { class: "axis", "stroke-opacity": row.cells ? 0 : 1, x1: gutter, x2: width, y1: y + ROW / 2, y2: y + ROW / 2 }),
      svg("text", { x: gutter - 8, y: y + 14, "text-anchor": "end" }, row.label),
      bars,
      cells,
      svg("title", {}, row.title),
    );
  }

  const bar = (row, x, wide, y, opacity) =>
    svg("rect", { class: `bar ${row.colour}`, x, y: y + 3, width: wide, height: ROW - 6, rx: 3, "fill-opacity": opacity });

  function drawAxis() {
    const y = rows.length * ROW;
    return ticks(0, duration, width < 520 ? 5 : 10).map((time) => {
      const x = across(time);
      const anchor = x > width - 16 ? "end" : "middle";
      return svg("text", { x, y: y + 16, "text-anchor": anchor }, seconds(time));
    });
  }

  function setTime(time) {
    now = time;
    head.setAttribute("x1", across(time));
    head.setAttribute("x2", across(time));
    element.setAttribute("aria-valuenow", time.toFixed(2));
    element.setAttribute("aria-valuetext", `${time.toFixed(1)} of ${duration.toFixed(1)} seconds`);
  }

  function pick(key) {
    picked = key;
    for (const row of element.querySelectorAll(".row")) row.classList.toggle("picked", row.dataset.key === String(key));
  }

  const seek = (time) => onSeek(Math.min(Math.max(time, 0), duration));
  const seekAt = (event) => seek(((event.clientX - element.getBoundingClientRect().left - gutter) / (width - gutter)) * duration);

  element.addEventListener("pointerdown", (event) => {
    const row = event.target.closest(".row");
    if (row !== null) onPick(row.dataset.key);
    element.setPointerCapture(event.pointerId);
    pressed = spans.get(event.target) ?? null;
    seekAt(event);
  });
  element.addEventListener("pointermove", (event) => {
    if (!element.hasPointerCapture(event.pointerId)) return;
    if (Math.abs(event.movementX) > 1) pressed = null;
    seekAt(event);
  });
  element.addEventListener("pointerup", () => {
    if (pressed !== null) onSpan?.(pressed);
    pressed = null;
  });
  element.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: now - STEP, ArrowRight: now + STEP, Home: 0, End: duration };
    if (event.key in steps && !event.altKey && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      event.stopPropagation();
      seek(steps[event.key]);
    }
  });
  const watcher = new ResizeObserver(draw);
  return {
    element,
    setTime,
    pick,
    attached: () => {
      draw();
      watcher.observe(element.parentElement);
    },
    detached: () => watcher.disconnect(),
  };
}
