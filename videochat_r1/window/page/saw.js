// What the model saw: its frames at the size it saw them, their times, and how many tokens they were.

import { el, fill } from "window/dom";
import { seconds, spansText } from "window/format";
import { ask } from "window/source";

/** A button that shows the frames below it; clicking one seeks there. `rollout()` is the answer that looked, told by its place. */
export function sawSection({ address, onSeek, rollout }) {
  const inner = el("div", {});
  const button = el("button", { type: "button", "aria-expanded": false, title: "key s", on: { click: toggle } }, "what the model saw");
  let open = false;

  async function toggle() {
    open = !open;
    button.setAttribute("aria-expanded", open);
    await show();
  }

  async function show() {
    if (!open) return fill(inner);
    const { key, name } = rollout();
    fill(inner, el("p", { class: "soft", role: "status" }, "decoding as the run did … (the first time, torch is loaded)"));
    let made;
    try {
      const looks = await ask(`${address}/saw`, { rollout: key });
      made = looks.map((one, place) => lookView(one, looks.length > 1 ? `look ${place + 1} of ${name}` : null, onSeek));
    } catch (error) {
      made = [el("p", { role: "alert" }, error.message)];
    }
    if (open && rollout().key === key) fill(inner, made);
  }

  return { element: el("section", { class: "saw", "aria-label": "what the model saw" }, button, inner), toggle, show };
}

/** One look: its numbers, and its frames with their times; clicking one calls onSeek. */
export function lookView(one, title, onSeek) {
  const facts = [
    `${one.num_frames} ${one.fps === null ? "pictures" : "frames"} of ${one.size.join(" × ")} (${one.original.join(" × ")} in the file)`,
    one.fps === null ? null : `${Number(one.fps.toFixed(2))} a second`,
    `${one.tokens} tokens: ${one.tokens_of_step} for each ${one.fps === null ? "picture" : "pair of frames"}`,
    one.prompt_tokens === null ? null : `${one.prompt_tokens} of the whole prompt`,
    one.positions ?? null,
    one.segments.length > 0 ? `of ${spansText(one.segments)}` : null,
    one.segments.length > 0 && one.rest_fps ? `${Number(one.rest_fps.toFixed(2))} a second of the rest` : null,
    one.frames.length < one.num_frames ? `${one.frames.length} of them are shown` : null,
  ];
  const written = one.frames.length === one.num_frames ? one.written : [];
  return el(
    "div",
    {},
    title === null ? null : el("h3", {}, title),
    el("p", { class: "soft" }, facts.filter((fact) => fact !== null).join(" · ")),
    el(
      "ol",
      { class: "frames" },
      one.frames.map((frame, place) => {
        const told = written[Math.floor(place / 2)];
        const label = [frame.seconds === null ? `${place + 1}` : seconds(frame.seconds), told && place % 2 === 0 ? told : null].filter((text) => text !== null).join(" ");
        const image = el("img", { src: frame.image, alt: `frame at ${label}` });
        return el("li", {}, frame.seconds === null ? image : el("button", { type: "button", on: { click: () => onSeek(frame.seconds) } }, image), el("span", { class: "soft" }, label));
      }),
    ),
  );
}
