// A question and what the model makes of it: looks, thoughts and answer as they come, with clues that can be played.

import { TASKS } from "window/composer";
import { el, fill } from "window/dom";
import { number, seconds, shownText, spansText } from "window/format";
import { lookView } from "window/saw";
import { posted } from "window/stream";

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const PREPARING = { reading: "reading the file …", encoding: "looking at it …", looking_again: "looking again at the clues …" };
const TAG = /<(\/?)(think|answer|glue)>/gi;

/**
 * The view of an exchange; `take(event)` shows what happens.
 *
 * media: address of what is talked about; onPlay(start, end) plays a part of it, onSeek(time) goes there; onShow(exchange) is called
 * when its clues and boxes are to be drawn, which `passes` holds.
 */
export function exchange({ question, media, onPlay, onSeek, onShow }) {
  const passes = [];
  const state = el("p", { class: "soft", role: "status" });
  const looks = el("div", {});
  const end = el("div", {});
  const answer = el("div", { class: "answered", "aria-busy": true }, looks, end, state);
  const element = el("article", { class: "exchange" }, asked(question), answer);
  const self = { element, passes, take, stop: () => finish("stopped"), fail: (sentence) => (finish(""), fill(end, el("p", { role: "alert" }, sentence))) };

  function take(event) {
    if (event.event === "waiting") state.textContent = event.place === 1 ? "one question is answered before yours" : `${event.place} questions are answered before yours`;
    if (event.event === "preparing") state.textContent = PREPARING[event.what] ?? "";
    if (event.event === "saw") saw(event);
    if (event.event === "text") passes[event.number].write(event.piece);
    if (event.event === "pass_done") passDone(event);
    if (event.event === "done") done(event);
    if (event.event === "problem") self.fail(event.sentence);
  }

  function saw(event) {
    state.textContent = "writing …";
    passes[event.number] = pass({ number: event.number, look: event.look, media, onSeek });
    if (passes.length === 2) passes[0].name();
    if (event.number > 0) passes[event.number].name();
    looks.append(passes[event.number].element);
  }

  function passDone(event) {
    const told = { clue: (span) => onPlay(...span), question, show: () => onShow(self) };
    passes[event.number].finish(event, told);
    onShow(self);
  }

  function done(event) {
    finish("");
    if (passes.length > 1) passes[event.answered_by].element.append(el("p", { class: "soft" }, "This answer stands."));
    if (event.note !== null) fill(end, el("p", { class: "soft" }, event.note));
  }

  function finish(words) {
    state.textContent = words;
    answer.setAttribute("aria-busy", false);
  }

  return self;
}

function asked(question) {
  const options = question.options ?? [];
  return el(
    "div",
    { class: "asked" },
    question.task === "free" ? null : el("span", { class: "flag" }, TASKS[question.task].name),
    el("p", {}, question.text || "Describe what is shown."),
    options.length > 0 ? el("ol", { class: "lettered" }, options.map((option) => el("li", {}, option))) : null,
    question.box ? el("p", { class: "soft" }, `box: ${question.box.map((side) => number(100 * side, 1)).join(", ")} %`) : null,
  );
}

/** One look and what is written after it. */
function pass({ number: place, look, media, onSeek }) {
  let text = "";
  const heading = el("h3", { hidden: true }, place === 0 ? "First look" : `Look ${place + 1}, more closely`);
  const words = el("div", { class: "words" });
  const marks = el("div", {});
  const element = el("section", { class: "pass", "aria-label": `look ${place + 1}` }, heading, sawLine({ look, media, onSeek }), words, marks);
  const self = {
    element,
    look,
    clues: [],
    boxes: null,
    name: () => (heading.hidden = false),
    write: (piece) => {
      text += piece;
      fill(words, partsOf(text.replace(/<\/?[a-z]*$/i, "")).map((part) => partView(part, true)));
    },
    finish: (event, { clue, question, show }) => {
      Object.assign(self, { clues: event.clues, boxes: event.boxes, boxTimes: event.box_times });
      fill(words, readable(event, question).map((part) => partView(part, false)));
      const flags = [event.answer === null ? "no answer could be read" : null, event.truncated ? "cut off at the length limit" : null].filter((flag) => flag !== null);
      fill(
        marks,
        event.clues.length > 0 ? el("p", { class: "clues" }, event.clues.map((span) => el("button", { type: "button", on: { click: () => (show(), clue(span)) } }, `▶ ${spansText([span])}`))) : null,
        event.boxes === null ? null : el("p", {}, el("button", { type: "button", on: { click: () => (show(), clue([0, Infinity])) } }, `▶ ${event.boxes.filter((box) => box !== null).length} boxes`)),
        flags.length > 0 ? el("p", {}, flags.map((flag) => el("span", { class: "flag" }, flag))) : null,
      );
    },
  };
  return self;
}

/** How much was seen, in a line; a button shows the frames. */
function sawLine({ look, media, onSeek }) {
  const facts = [
    look.segments.length > 0 ? shownText(look) : null,
    `${look.num_frames} ${look.fps === null ? "picture" : "frames"}${look.fps !== null && look.num_frames > 1 ? `, one every ${seconds(1 / look.fps)}` : ""}${look.segments.length > 0 && look.rest_fps ? ` there, and every ${seconds(1 / look.rest_fps)} elsewhere` : ""}`,
    `${look.num_tokens} tokens`,
  ];
  const inner = el("div", {});
  const button = el("button", { type: "button", class: "quiet", "aria-expanded": false, on: { click: toggle } }, "what the model saw");
  let open = false;

  async function toggle() {
    open = !open;
    button.setAttribute("aria-expanded", open);
    if (!open) return fill(inner);
    fill(inner, el("p", { class: "soft", role: "status" }, "decoding …"));
    let made;
    try {
      made = lookView(await posted(`${media}/saw`, look), null, onSeek);
    } catch (error) {
      made = el("p", { role: "alert" }, error.message);
    }
    if (open) fill(inner, made);
  }

  return el("div", { class: "saw" }, el("p", { class: "soft" }, facts.filter((fact) => fact !== null).join(" · "), " ", button), inner);
}

/** Stretches of what is written so far, told apart by their tags. */
function partsOf(text) {
  const parts = [];
  let [kind, from] = ["text", 0];
  for (const tag of text.matchAll(TAG)) {
    parts.push({ kind, text: text.slice(from, tag.index) });
    [kind, from] = [tag[1] === "/" ? "text" : tag[2].toLowerCase(), tag.index + tag[0].length];
  }
  parts.push({ kind, text: text.slice(from) });
  return parts.map((part) => ({ ...part, text: part.text.trim() })).filter((part) => part.text !== "");
}

/** What was written, with an option's words for its letter, boxes folded, and without the clues that can be played. */
function readable({ parts, choice, clues, boxes }, { options }) {
  const kept = parts.filter((part) => part.kind !== "glue" || clues.length === 0);
  if (boxes !== null) return kept.map((part) => (part.kind === "think" ? part : { ...part, kind: "boxes" }));
  if (choice === null) return kept;
  const chosen = { kind: "answer", text: `(${LETTERS[choice]}) ${options[choice]}` };
  const place = kept.findLastIndex((part) => part.kind === "answer");
  return place < 0 ? [...kept, chosen] : kept.with(place, chosen);
}

function partView(part, open) {
  const folded = { think: "thought", boxes: "boxes as written" }[part.kind];
  if (folded !== undefined) return el("details", { class: "thought", open }, el("summary", {}, folded), el("p", {}, part.text));
  if (part.kind === "glue") return el("p", { class: "soft" }, `clues: ${part.text}`);
  return el("p", { class: part.kind === "answer" ? "answer" : null }, part.text);
}
