// Where a question is put: what kind of answer is wanted, its words, options or box, and how the model is to look.

import { boxTool } from "window/box";
import { el, fill } from "window/dom";

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

export const TASKS = {
  free: { name: "ask", words: "Ask about what is shown" },
  moment: { name: "find a moment", words: "What happens at the moment to be found?" },
  track: { name: "track", words: "What is in the box?" },
  choice: { name: "choose", words: "What are the options about?" },
  describe: { name: "describe", words: "Anything to pay attention to? May be left empty" },
};
const OF_PICTURES = ["free", "choice", "describe"];
const LOOKS_AGAIN = ["free", "choice"];
const VIEWS = { absolute: "the clues alone", relative: "the clues as one clip", dense: "the whole video, more of the clues" };
const BOOSTS = { resolution_boost: "× resolution", fps_boost: "× frame rate", rounds: "further looks" };

/**
 * The form. onAsk(question) is called with what the server is asked, onStop() by its button; onDraw(drawing) when the box tool
 * comes or goes.
 */
export function composer({ about, onAsk, onStop, onDraw }) {
  let task = "free";
  let kind = "video";
  let busy = false;
  const text = el("textarea", { rows: 2, maxlength: 4000, "aria-label": "question", on: { keydown: onKey, input: grow } });
  const radios = Object.entries(TASKS).map(([name, { name: words }]) => {
    const radio = el("input", { type: "radio", name: "task", value: name, checked: name === task, on: { change: () => pick(name) } });
    return el("label", { class: "choice" }, radio, el("span", {}, words));
  });
  const options = el("ol", { class: "editable", "aria-label": "options" });
  const more = el("button", { type: "button", on: { click: () => addOption().focus() } }, "add an option");
  const editor = el("div", { hidden: true }, options, more);
  const draw = el("button", { type: "button", on: { click: () => onDraw(true) } }, "draw it again");
  const box = boxTool(() => {});
  const boxed = el("div", { hidden: true }, box.fields);
  box.fields.append(draw);
  const thinking = el("input", { type: "checkbox", checked: about.thinking });
  const again = el("input", { type: "checkbox", on: { change: () => (closer.element.hidden = !again.checked) } });
  const closer = closerOptions(about.clues);
  const looks = el(
    "div",
    { class: "again" },
    el("label", { title: "the model answers, looks again at the clues of its answer more closely, and answers again" }, again, "look again at the clues"),
    closer.element,
  );
  const send = el("button", { type: "submit", class: "send" }, "ask");
  const stop = el("button", { type: "button", hidden: true, on: { click: onStop } }, "stop");
  const trouble = el("p", { role: "alert" });
  const element = el(
    "form",
    { class: "composer", "aria-label": "your question", novalidate: true, on: { submit: (event) => (event.preventDefault(), ask()) } },
    el("fieldset", { class: "tasks" }, el("legend", { class: "hidden" }, "what kind of answer"), radios),
    boxed,
    el("div", { class: "line" }, text, send, stop),
    editor,
    el("div", { class: "switches" }, el("label", {}, thinking, "think first"), looks),
    trouble,
  );

  function pick(name) {
    task = name;
    text.placeholder = TASKS[task].words;
    editor.hidden = task !== "choice";
    if (task === "choice" && options.children.length === 0) for (let place = 0; place < 4; place++) addOption();
    boxed.hidden = task !== "track";
    looks.hidden = !LOOKS_AGAIN.includes(task) || kind === "pictures";
    trouble.textContent = "";
    onDraw(task === "track");
  }

  function addOption(value = "") {
    const input = el("input", { type: "text", maxlength: 400, value, on: { keydown: (event) => event.key === "Enter" && (event.preventDefault(), nextOption(input)) } });
    const remove = el("button", { type: "button", class: "quiet", on: { click: () => (item.remove(), nameOptions()) } }, "×");
    const item = el("li", {}, input, remove);
    options.append(item);
    nameOptions();
    return input;
  }

  function nextOption(input) {
    const inputs = [...options.querySelectorAll("input")];
    (inputs[inputs.indexOf(input) + 1] ?? addOption()).focus();
  }

  function nameOptions() {
    [...options.children].forEach((item, place) => {
      item.firstChild.setAttribute("aria-label", `option ${LETTERS[place]}`);
      item.lastChild.setAttribute("aria-label", `remove option ${LETTERS[place]}`);
    });
    more.hidden = options.children.length >= LETTERS.length;
  }

  function onKey(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  }

  function grow() {
    text.style.setProperty("height", "auto");
    text.style.setProperty("height", `${Math.min(text.scrollHeight + 2, 180)}px`);
  }

  function question() {
    const asked = { text: text.value.trim(), task, thinking: thinking.checked };
    if (task === "choice") asked.options = [...options.querySelectorAll("input")].map((input) => input.value.trim()).filter((option) => option !== "");
    if (task === "track") asked.box = box.value();
    if (!looks.hidden && again.checked) asked.clue_perception = closer.value();
    return asked;
  }

  /** What is missing, as a sentence; null where nothing is. The server says the rest. */
  function missing(asked) {
    if (task === "track" && asked.box === null) return "Draw a box around it on the first frame.";
    if (task === "choice" && asked.options.length < 2) return "Write at least two options.";
    return asked.text === "" && task !== "describe" ? "Write something first." : null;
  }

  function ask() {
    if (busy) return;
    const asked = question();
    trouble.textContent = missing(asked) ?? "";
    if (trouble.textContent !== "") return;
    text.value = "";
    grow();
    onDraw(false);
    onAsk(asked);
  }

  return {
    element,
    surface: box.surface,
    /** Another thing to talk about: pictures have no moments. */
    begin: (shown) => {
      kind = shown;
      box.clear();
      radios.forEach((label) => (label.hidden = kind === "pictures" && !OF_PICTURES.includes(label.firstChild.value)));
      if (kind === "pictures" && !OF_PICTURES.includes(task)) radios[0].firstChild.click();
      pick(task);
    },
    setBusy: (now) => {
      busy = now;
      send.hidden = busy;
      stop.hidden = !busy;
    },
    /** Gives back words that were not answered, unless others are written by now. */
    giveBack: (words) => {
      if (text.value === "") text.value = words;
      grow();
    },
    focus: () => text.focus(),
    say: (sentence) => fill(trouble, sentence),
  };
}

/** How closely to look again, as the command has it unless changed; the server says what cannot be. */
function closerOptions(clues) {
  const view = el("select", { "aria-label": "what a further look shows" }, Object.entries(VIEWS).map(([value, words]) => el("option", { value, selected: value === clues.time }, words)));
  const numbers = Object.entries(BOOSTS).map(([name, words]) => [name, words, el("input", { type: "number", min: 1, step: name === "rounds" ? 1 : 0.5, value: clues[name] })]);
  const element = el(
    "details",
    { class: "closer", hidden: true },
    el("summary", {}, "how closely"),
    el("div", { class: "switches" }, view, numbers.map(([, words, input]) => el("label", {}, input, words))),
  );
  // What is no number goes as null.
  return { element, value: () => Object.fromEntries([["time", view.value], ...numbers.map(([name, , input]) => [name, input.valueAsNumber])]) };
}
