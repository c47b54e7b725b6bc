// Completions by token: the less likely a token was, or the further sampler and trainer were apart on it, the stronger its ground.

import { el } from "window/dom";
import { share } from "window/format";

// From the strongest ground to the palest; what is below the last has none.
const CHANCES = [0.01, 0.1, 0.5, 0.9];
const DIFFERENCES = [1, 0.1, 0.01];
const MODES = { chance: "how likely", apart: "sampler and trainer apart", plain: "not at all" };

// Holds from one group to the next.
let mode = "chance";

/** A choice of what tokens are shaded by, with its legend; null where no tokens were logged. `marked` gets the class that does it. */
export function shading(rollouts, marked) {
  const pieces = rollouts.flatMap((one) => [one, ...one.looks].flatMap(({ parts }) => parts.flatMap((part) => part.pieces ?? [])));
  if (pieces.length === 0) return null;
  const compared = pieces.some(([, , difference]) => difference !== null);
  const legends = {
    chance: legend("c", ["under 1 %", "1 to 10 %", "10 to 50 %", "50 to 90 %"]),
    apart: legend("d", ["over 1", "0.1 to 1", "0.01 to 0.1"]),
    plain: null,
  };
  const names = Object.keys(MODES).filter((name) => compared || name !== "apart");
  const note = el("span", { class: "soft" });
  const select = el("select", { "aria-label": "tokens shaded by", title: "key t", on: { change: () => choose(select.value) } }, names.map((name) => el("option", { value: name }, MODES[name])));

  function choose(name) {
    mode = name;
    const shown = names.includes(mode) ? mode : "chance";
    select.value = shown;
    for (const each of names) marked.classList.toggle(`by-${each}`, each === shown);
    note.replaceChildren(...(legends[shown] ?? []));
  }

  choose(mode);
  return { element: el("p", { class: "shading" }, el("label", {}, el("span", { class: "soft" }, "tokens shaded by "), select), note), next: () => choose(names[(names.indexOf(select.value) + 1) % names.length]) };
}

const legend = (letter, words) => words.map((text, place) => el("span", { class: "key" }, el("i", { class: `${letter}${place}` }), text));

/** The text of a part; only tokens with a ground, or a value worth reading, are elements of their own. */
export function partText(part) {
  if (!part.pieces) return [part.text];
  return part.pieces.map(([text, logp, difference]) => {
    const classes = logp === null ? [] : [rankOf("c", CHANCES.findIndex((limit) => Math.exp(logp) < limit)), difference === null ? null : rankOf("d", DIFFERENCES.findIndex((limit) => Math.abs(difference) >= limit))].filter((name) => name !== null);
    return classes.length === 0 ? text : el("span", { class: classes.join(" "), title: told(logp, difference) }, text);
  });
}

/** The least likely token of a completion in words; null where none was unlikely. */
export function leastLikely(one) {
  const known = one.parts.flatMap((part) => part.pieces ?? []).filter(([text, logp]) => logp !== null && text.trim() !== "");
  if (known.length === 0) return null;
  const [text, logp] = known.reduce((least, piece) => (piece[1] < least[1] ? piece : least));
  return Math.exp(logp) < 0.5 ? `least likely “${text.trim()}”, ${share(Math.exp(logp))}` : null;
}

const rankOf = (letter, place) => (place < 0 ? null : `${letter}${place}`);

const told = (logp, difference) => `${share(Math.exp(logp))}, log-probability ${logp.toFixed(2)}${difference === null ? "" : `; ${Math.abs(difference).toPrecision(2)} ${difference < 0 ? "below" : "above"} the trainer's`}`;
