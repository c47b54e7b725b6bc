// Answers that are no times: options with who chose them, numbers on a line, captions with their events.

import { el, svg } from "window/dom";
import { number, ticks } from "window/format";

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** What there is to show of a group beside its time line; null for nothing. */
export function kindView(group) {
  if (group.options.length > 0) return options(group);
  if (group.events.length > 0 || group.task === "captioning") return caption(group);
  const numbers = group.rollouts.map((one) => asNumber(one.answer?.text));
  const truth = asNumber(group.truth.text);
  if (truth !== null && numbers.some((value) => value !== null)) return numberLine(truth, numbers);
  return group.truth.text === undefined ? null : el("p", {}, el("span", { class: "soft" }, "truth: "), group.truth.text);
}

function options(group) {
  const names = group.options.map((text, place) => (group.lettered ? LETTERS[place] : text));
  const chosen = names.map((name) => group.rollouts.filter((one) => one.answer?.choice === name).length);
  const rows = names.map((name, place) =>
    el(
      "li",
      { class: name === group.truth.choice ? "right" : "" },
      el("span", { class: "tick", "aria-hidden": "true" }, name === group.truth.choice ? "✓" : ""),
      el("span", {}, group.lettered ? `(${name}) ${group.options[place]}` : name),
      name === group.truth.choice ? el("span", { class: "hidden" }, " (right)") : null,
      el("span", { class: "share" }, el("i", { style: { width: `${(100 * chosen[place]) / Math.max(group.rollouts.length, 1)}%` } })),
      el("span", { class: "soft" }, `${chosen[place]} of ${group.rollouts.length}`),
    ),
  );
  return el("ul", { class: "options" }, rows);
}

function caption(group) {
  const events = group.events.map((event) => el("li", {}, event));
  return el(
    "div",
    { class: "caption" },
    group.truth.text === undefined ? null : el("p", {}, el("span", { class: "soft" }, "true caption: "), group.truth.text),
    events.length > 0 ? el("ol", { class: "events" }, events) : null,
  );
}

function asNumber(text) {
  const value = text === undefined || text === null || text.trim() === "" ? NaN : Number(text);
  return Number.isFinite(value) ? value : null;
}

function numberLine(truth, answers) {
  const known = [truth, ...answers.filter((value) => value !== null)];
  const low = Math.min(...known);
  const high = Math.max(...known);
  const margin = (high - low || Math.abs(truth) || 1) * 0.08;
  const across = (value) => 10 + (580 * (value - low + margin)) / (high - low + 2 * margin);
  return svg(
    "svg",
    { class: "numbers", viewBox: "0 0 600 56", role: "img", "aria-label": `truth ${truth}; answers ${answers.map((value) => (value === null ? "none" : value)).join(", ")}` },
    svg("line", { class: "axis", x1: 10, x2: 590, y1: 30, y2: 30 }),
    ticks(low - margin, high + margin, 6).map((value) => svg("text", { x: across(value), y: 52, "text-anchor": "middle" }, String(value))),
    answers.map((value, place) =>
      value === null ? null : svg("circle", { class: "after", cx: across(value), cy: 30, r: 6, "fill-opacity": 0.55 }, svg("title", {}, `answer ${place + 1}: ${number(value)}`)),
    ),
    svg("path", { class: "truth", d: `M${across(truth)} 22 l-6 -12 h12 z` }, svg("title", {}, `truth: ${truth}`)),
  );
}
