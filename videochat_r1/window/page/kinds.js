// Answers that are no times: options with who chose them, numbers on a line, captions with their events.

import { el, svg } from "window/dom";
import { number, shortName, ticks } from "window/format";

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** What there is to show of a group beside its time line; null for nothing. `ranked` are its answers, the best first. */
export function kindView(group, ranked, onPick) {
  if (group.options.length > 0) return options(group);
  if (group.events.length > 0 || group.task === "captioning") return caption(group, ranked, onPick);
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

const VERDICTS = { entailment: ["✓", "found"], contradiction: ["✗", "contradicted"], neutral: ["·", "not found"] };

/** The true caption, and its events with a mark for every answer that a judge held against them. */
function caption(group, ranked, onPick) {
  const judged = ranked.filter((one) => Object.keys(one.found).length > 0);
  const mark = (one, event) => {
    const [sign, words] = VERDICTS[one.found[event]] ?? ["", "not judged"];
    return el("td", { class: `verdict ${one.found[event] === "entailment" ? "tick" : "soft"}`, "data-key": one.key, title: `${one.name}: ${words}` }, el("span", { "aria-hidden": "true" }, sign), el("span", { class: "hidden" }, words));
  };
  const head = (one) => el("th", { scope: "col", "data-key": one.key }, el("button", { type: "button", "aria-label": one.name, on: { click: () => onPick(one.key) } }, shortName(one)));
  return el(
    "div",
    { class: "caption" },
    group.truth.text === undefined ? null : el("p", {}, el("span", { class: "soft" }, "true caption: "), group.truth.text),
    judged.length > 0
      ? el(
          "div",
          { class: "scroll", tabindex: 0 },
          el(
            "table",
            { class: "events" },
            el("thead", {}, el("tr", {}, el("th", { class: "text", scope: "col" }, "true event"), judged.map(head))),
            el("tbody", {}, group.events.map((event) => el("tr", {}, el("th", { class: "text", scope: "row" }, event), judged.map((one) => mark(one, event))))),
          ),
        )
      : group.events.length > 0
        ? el("ol", { class: "events" }, group.events.map((event) => el("li", {}, event)))
        : null,
  );
}

/** What a caption tells, each with whether the truth has it; null where no judge said. */
export function claimsView(claims) {
  if (claims.length === 0) return null;
  return el(
    "ul",
    { class: "claims" },
    claims.map(([event, label]) => {
      const sign = { entailment: "✓", contradiction: "✗" }[label] ?? "·";
      const words = { entailment: "true", contradiction: "false" }[label] ?? "not in the true caption";
      return el("li", {}, el("span", { class: label === "entailment" ? "tick" : "soft", "aria-hidden": "true" }, sign), el("span", {}, event, el("span", { class: "hidden" }, ` (${words})`)));
    }),
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
