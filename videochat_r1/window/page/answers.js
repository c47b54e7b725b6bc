// The completions of a group, thought and answer told apart, with what they earned.

import { el } from "window/dom";
import { endedText, number, shownText, signed, spansText } from "window/format";
import { claimsView } from "window/kinds";
import { leastLikely, partText, shading } from "window/tokens";

const KINDS = { think: "thought", answer: "answer", glue: "clues", text: "outside of tags" };

/** Ranked completions; onPick(key) is called for the one that is clicked. `pick(key)` marks one and brings it into view. */
export function answers({ ranked, onPick }) {
  const items = new Map(ranked.map((one) => [String(one.key), item(one, onPick)]));
  const list = el("ol", { class: "answers" }, [...items.values()]);
  const shade = shading(ranked, list);
  return {
    element: el("div", {}, shade?.element, list),
    shade: shade?.next ?? null,
    pick: (key, { scroll = true } = {}) => {
      for (const [own, one] of items) {
        const isPicked = own === String(key);
        one.classList.toggle("picked", isPicked);
        one.firstChild.setAttribute("aria-pressed", isPicked);
        if (isPicked && scroll) one.scrollIntoView({ block: "nearest" });
      }
    },
  };
}

const partView = (part) => el("div", { class: `part ${part.kind}` }, el("span", { class: "label" }, KINDS[part.kind] ?? part.kind), el("code", {}, partText(part)));

/** A look at the video, what was written after it, and what that earned where each look is paid. */
function look(one, place) {
  const facts = [
    one.frames === null ? null : `${one.frames} frames`,
    one.tokens === null ? null : `${one.tokens} tokens`,
    one.reward === null ? null : `reward ${number(one.reward)}`,
    one.advantage === null ? null : `advantage ${signed(one.advantage)}`,
    rewardsText(one.rewards),
  ];
  return el("div", { class: "look" }, el("p", { class: "soft" }, `look ${place + 1}: ${[shownText(one), ...facts.filter((fact) => fact)].join(", ")}`), one.parts.map(partView));
}

const rewardsText = (rewards) => Object.entries(rewards).filter(([, value]) => value !== null).map(([name, value]) => `${name} ${number(value)}`).join("  ");

function item(one, onPick) {
  const flags = [
    one.answer === null ? "no answer could be read" : null,
    one.ended !== "stop" && one.ended !== "" ? endedText(one.ended) : null,
    one.whole_video ? "covers the whole video" : null,
    one.past_end ? "ends after the video" : null,
  ].filter((flag) => flag !== null);
  return el(
    "li",
    { "data-key": one.key },
    el(
      "button",
      { type: "button", "aria-pressed": false, on: { click: () => onPick(one.key) } },
      el("strong", {}, one.name),
      el("span", { class: "reward" }, number(one.reward)),
      one.advantage === null ? null : el("span", { class: one.advantage < 0 ? "before" : "after", title: "advantage" }, signed(one.advantage)),
      el("span", { class: "soft" }, rewardsText(one.rewards)),
    ),
    one.looks.length > 1 ? one.looks.map(look) : one.parts.map(partView),
    one.parts.length === 0 ? el("p", { class: "soft" }, "an empty completion") : null,
    claimsView(one.claims),
    el(
      "p",
      { class: "soft" },
      [
        one.answer?.spans?.length ? spansText(one.answer.spans) : null,
        one.tokens === null ? null : `${one.tokens} tokens`,
        one.mean_logp === null ? null : `mean log-probability ${signed(one.mean_logp)}`,
        leastLikely(one),
        flags.includes(endedText(one.ended)) || one.ended === "" ? null : endedText(one.ended),
      ]
        .filter((text) => text !== null)
        .join(" · "),
    ),
    flags.length > 0 ? el("p", { class: "flags" }, flags.map((flag) => el("span", { class: "flag" }, flag))) : null,
    one.problem === null ? null : el("p", { class: "flags" }, el("span", { class: "flag" }, one.problem)),
  );
}
