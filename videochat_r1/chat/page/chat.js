// A conversation about one video or picture: what is shown, what was said, and where the next question is put.

import { composer } from "window/composer";
import { el, fill } from "window/dom";
import { exchange } from "window/exchange";
import { library, takeDrops } from "window/library";
import { pictures, player } from "window/player";
import { answered } from "window/source";
import { forget, posted, streamed } from "window/stream";
import { timeline } from "window/timeline";

// Pixels from the end within which somebody reads what is being written.
const NEAR = 200;

const bar = el("header", { class: "bar" });
const main = el("main", { id: "main", tabindex: -1 });
const state = { item: null, conversation: null, shown: null, asking: null, line: null, length: null };

document.body.append(bar, main);
start().catch((error) => fill(main, el("p", { role: "alert" }, error.message)));

async function start() {
  const about = await (await answered("/api/about")).json();
  const chooser = await library({ endings: about.endings, mostBytes: about.most_bytes, onChoose: begin });
  const form = composer({ about, onAsk: ask, onStop: () => state.asking?.abort(), onDraw: drawBox });
  const stage = el("div", { class: "shown" });
  const under = el("div", { class: "under" });
  const log = el("div", { class: "log", role: "log", "aria-label": "conversation", tabindex: 0 });
  const talk = el("div", { class: "talk", hidden: true }, el("section", { class: "watch", "aria-label": "what is shown" }, stage, under), el("section", { class: "said", "aria-label": "conversation" }, log, form.element));
  const name = el("span", { class: "soft name" });
  const other = el("button", { type: "button", hidden: true, on: { click: toggleChooser } }, "choose another");
  const anew = el("button", { type: "button", hidden: true, on: { click: () => begin(state.item).catch((error) => form.say(error.message)) } }, "new conversation");
  fill(bar, el("a", { class: "skip", href: "#main", on: { click: (event) => (event.preventDefault(), main.focus()) } }, "to the content"), el("strong", {}, about.model), name, el("span", { class: "ends" }, other, anew));
  const notes = [about.note, about.streams ? null : "With this engine an answer comes as a whole, not word by word."].filter((text) => text !== null);
  chooser.element.prepend(...notes.map(note));
  fill(main, chooser.element, talk);
  document.title = `${about.model} · videochat-r1`;
  takeDrops((file) => {
    showChooser(true);
    chooser.take(file);
  });
  // The answer that is being written stops by itself when the page goes.
  addEventListener("pagehide", () => forget(state.item));
  addEventListener("pageshow", (event) => event.persisted && location.reload());

  function showChooser(open) {
    chooser.element.hidden = !open;
    talk.hidden = open;
    other.textContent = open ? "back to the conversation" : "choose another";
  }

  function toggleChooser() {
    showChooser(chooser.element.hidden);
  }

  /** A new conversation, about the same or about something else; throws an Error with a sentence. */
  async function begin(item) {
    const address = `/api/media/${item.key}`;
    const { conversation, media } = await posted(`${address}/conversations`, null);
    state.asking?.abort();
    if (state.item !== null && state.item.key !== item.key) forget(state.item);
    Object.assign(state, { item, conversation, line: null, length: media.duration });
    const tracks = { tracks: [], onTime: (time) => state.line?.setTime(time), onLength: (length) => (state.length = Number.isFinite(length) ? length : state.length) };
    state.shown = media.kind === "pictures" ? null : player({ address, media, ...tracks });
    state.shown?.stage.append(form.surface);
    fill(stage, state.shown === null ? pictures({ address, media }) : state.shown.element);
    fill(under);
    fill(log, notes.map(note), el("p", { class: "soft" }, "Ask something about it. Questions that follow know what was said before."));
    name.textContent = item.name;
    for (const button of [other, anew]) button.hidden = false;
    showChooser(false);
    form.begin(media.kind);
    form.focus();
  }

  async function ask(question) {
    const asking = new AbortController();
    const one = exchange({ question, media: `/api/media/${state.item.key}`, onPlay: play, onSeek: (time) => state.shown?.seek(time), onShow: showMarks });
    log.append(one.element);
    follow(true);
    state.asking = asking;
    form.setBusy(true);
    let unanswered = true;
    try {
      await streamed(`/api/conversations/${state.conversation}/ask`, question, {
        signal: asking.signal,
        onEvent: (event) => {
          one.take(event);
          if (event.event === "done") unanswered = false;
          follow();
        },
      });
    } catch (error) {
      if (asking.signal.aborted) one.stop();
      else one.fail(error.message);
    }
    if (state.asking !== asking) return;
    state.asking = null;
    form.setBusy(false);
    if (unanswered) form.giveBack(question.text);
    // Whoever went on to read stays there.
    if (document.activeElement === document.body || form.element.contains(document.activeElement)) form.focus();
  }

  /** Keeps the end in sight of whoever has not scrolled up; the page scrolls where it is too narrow for two columns. */
  function follow(always = false) {
    const scrolled = log.scrollHeight > log.clientHeight ? log : document.scrollingElement;
    if (always || scrolled.scrollHeight - scrolled.scrollTop - scrolled.clientHeight < NEAR) scrolled.scrollTop = scrolled.scrollHeight;
  }

  function play(begin, end) {
    state.shown?.play(begin, end);
  }

  /** Clues and boxes of an exchange on the time line and the frame. */
  function showMarks({ passes }) {
    if (state.shown === null) return;
    const boxes = passes.findLast((one) => one.boxes !== null);
    state.shown.setTracks(boxes === undefined ? [] : [{ key: "answer", colour: "after", boxes: boxes.boxes, times: boxes.boxTimes }]);
    state.shown.pick("answer");
    const many = passes.length > 1;
    const rows = passes.flatMap((one, place) => [
      one.look.segments.length > 0 ? { key: `look ${place}`, label: "looked at", title: `look ${place + 1} was at this`, colour: "blind", spans: one.look.segments } : null,
      one.clues.length > 0 ? { key: `clues ${place}`, label: many ? `clues ${place + 1}` : "clues", title: "clues of the answer", colour: place === 0 ? "after" : "third", spans: one.clues } : null,
    ]).filter((row) => row !== null);
    state.line?.detached();
    state.line = rows.length === 0 || !state.length ? null : timeline({ rows, duration: state.length, onSeek: state.shown.seek, onPick: () => {}, onSpan: (span) => play(...span) });
    fill(under, state.line?.element);
    state.line?.attached();
    state.line?.setTime(state.shown.time());
  }

  function drawBox(drawing) {
    form.surface.classList.toggle("drawing", drawing && state.shown !== null);
    if (!drawing || state.shown === null) return;
    state.shown.setTracks([]);
    state.shown.video.pause();
    state.shown.seek(0);
  }
}

const note = (text) => el("p", { class: "note" }, text);
