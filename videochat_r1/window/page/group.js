// One group: its video with the truth and all answers over one time line, and the completions beside it.

import { answers } from "window/answers";
import { lineChart } from "window/charts";
import { el, fill } from "window/dom";
import { number, shortName, spansText, taskName } from "window/format";
import { kindView } from "window/kinds";
import { pictures, player } from "window/player";
import { sawSection } from "window/saw";
import { ask, groupAddress, isExported } from "window/source";
import { timeline } from "window/timeline";

/** The view of a group; `keys` maps keys to what they do. */
export async function groupView({ run, number: wanted, filters, to, list: listOf }) {
  const address = groupAddress(run, wanted);
  const group = await ask(address, filters);
  const ranked = rank(group);
  let picked = 0;

  const pickKey = (key) => pick(ranked.findIndex((one) => String(one.key) === String(key)));
  const list = answers({ ranked, onPick: pickKey });
  const kind = kindView(group, ranked, pickKey);
  const lower = el("div", { class: "under" });
  const shown =
    group.media.kind === "pictures"
      ? { element: pictures({ address, media: group.media }), pick: () => {}, seek: () => {}, video: null }
      : player({ address, media: group.media, tracks: tracks(group, ranked), onTime: (time) => line?.setTime(time), onLength: begin });
  const saw = isExported ? { element: null, toggle: null, show: null } : sawSection({ address, onSeek: (time) => shown.seek(time), rollout: () => ranked[picked] ?? { key: 0, name: "" } });
  // Of one look alone, all answers saw the same.
  const looked = group.rollouts.some((one) => one.looks.length > 1);
  let line = null;
  const element = el(
    "div",
    { class: "group" },
    el("section", { class: "media", "aria-label": "what is shown" }, shown.element, lower, kind, saw.element, drawsView(group, to, listOf)),
    el("section", { class: "texts", "aria-label": "answers" }, list.element),
  );

  // The video's own length tells more than the annotation's: what is drawn stands at the right place of the video.
  function begin(length) {
    const duration = Number.isFinite(length) ? length : group.duration;
    const rows = timeRows(group, ranked);
    if (!duration || rows.length === 0 || group.media.kind === "pictures") return;
    line = timeline({ rows, duration, onSeek: shown.seek, onPick: pickKey });
    fill(lower, line.element);
    line.attached();
    line.pick(ranked[picked]?.key);
  }

  function pick(place, { scroll = true } = {}) {
    if (ranked[place] === undefined) return;
    const moved = picked !== place;
    picked = place;
    if (moved && looked) saw.show?.();
    const { key } = ranked[place];
    list.pick(key, { scroll });
    shown.pick(key);
    line?.pick(key);
    for (const cell of kind?.querySelectorAll("[data-key]") ?? []) cell.classList.toggle("picked", cell.dataset.key === String(key));
  }

  if (group.media.problem !== null || group.media.kind === "pictures") begin(group.duration);
  const step = (place) => (place === null ? null : () => (location.hash = to(place)));
  const { previous, next, previous_step: earlier, next_step: later } = group.neighbours;
  const view = el(
    "article",
    {},
    el(
      "header",
      { class: "heading" },
      el("h1", {}, group.step ? `Update ${group.step}, ` : "", taskName(group.task)),
      el("p", { class: "soft" }, [group.sample, group.source, group.media.name].filter((text) => text !== "").join(" · ")),
      el(
        "nav",
        { class: "steps", "aria-label": "groups" },
        isExported ? null : el("a", { href: `${address}/export`, download: `group-${wanted}.html` }, "save as one file"),
        group.step ? link("‹‹ update", "p or [", earlier, step(earlier)) : null,
        link("‹ group", "h or ←", previous, step(previous)),
        link("group ›", "l or →", next, step(next)),
        group.step ? link("update ››", "n or ]", later, step(later)) : null,
      ),
    ),
    el("p", { class: "question" }, group.question),
    truthText(group),
    element,
  );
  const video = shown.video;
  const keys = {
    j: () => pick(picked + 1),
    ArrowDown: () => pick(picked + 1),
    k: () => pick(picked - 1),
    ArrowUp: () => pick(picked - 1),
    l: step(next),
    ArrowRight: step(next),
    h: step(previous),
    ArrowLeft: step(previous),
    n: step(later),
    "]": step(later),
    p: step(earlier),
    "[": step(earlier),
    s: saw.toggle,
    t: list.shade,
    " ": video === null ? null : () => (video.paused ? video.play() : video.pause()),
    ",": video === null ? null : () => shown.seek(Math.max(shown.time() - 0.5, 0)),
    ".": video === null ? null : () => shown.seek(shown.time() + 0.5),
  };
  return { element: view, keys, attached: () => pick(0, { scroll: false }), title: `${taskName(group.task)} ${group.sample}` };
}

/** The sample's groups of other updates, which lead to them. */
function drawsView(group, to, list) {
  if (group.draws.length < 2) return null;
  const points = group.draws.filter((one) => one.mean !== null).map((one) => [one.step, one.mean]);
  return el(
    "section",
    { class: "draws", "aria-label": "this sample through training" },
    el("h2", {}, "this sample through training"),
    lineChart({ title: "mean reward", lines: [{ name: "mean reward", colour: "after", points }] }),
    el(
      "p",
      {},
      group.draws.map((one) => el("a", { class: "chip", href: to(one.number, { sample: group.sample }), "aria-current": one.number === group.number ? "true" : null }, `update ${one.step}: ${number(one.mean)}`)),
      el("a", { href: list({ sample: group.sample }) }, "all"),
    ),
  );
}

function link(text, keys, place, onClick) {
  return el("button", { type: "button", disabled: place === null, title: `key ${keys}`, on: { click: onClick ?? (() => {}) } }, text);
}

/** Rollouts by reward, the best first, named by their place in the group. */
function rank(group) {
  return group.rollouts
    .map((one, place) => ({ ...one, key: place, name: one.name ?? (group.rollouts.length === 1 ? "answer" : `answer ${place + 1}`) }))
    .sort((a, b) => (b.reward ?? -Infinity) - (a.reward ?? -Infinity) || a.key - b.key);
}

const colourOf = (one) => (one.advantage !== null && one.advantage < 0 ? "before" : "after");

function tracks(group, ranked) {
  if (group.truth.boxes === undefined) return [];
  const answered = ranked.filter((one) => one.answer?.boxes).map((one) => ({ key: one.key, colour: colourOf(one), boxes: one.answer.boxes }));
  return [{ key: "truth", colour: "truth", boxes: group.truth.boxes }, ...answered];
}

function timeRows(group, ranked) {
  const { spans, boxes } = group.truth;
  if (spans === undefined && boxes === undefined) return [];
  const truth = { key: "truth", label: "truth", title: "truth", colour: "truth", spans: spans ?? [], cells: boxes?.map(() => 1) };
  const rows = ranked.map((one) => ({
    key: one.key,
    label: `${shortName(one)}  ${number(one.reward)}`,
    title: `${one.name}: ${one.answer?.spans ? spansText(one.answer.spans) : ""} reward ${number(one.reward)}`,
    colour: colourOf(one),
    spans: one.answer?.spans ?? [],
    cells: boxes?.map((box, place) => overlap(box, one.answer?.boxes?.[place] ?? null)),
  }));
  return [truth, ...rows];
}

function truthText(group) {
  const { spans } = group.truth;
  return spans === undefined ? null : el("p", { class: "soft" }, "truth: ", spansText(spans));
}

/** Intersection over union of two boxes; 0 where one is missing. */
function overlap(a, b) {
  if (a === null || b === null) return 0;
  const sides = (box) => [Math.min(box[0], box[2]), Math.min(box[1], box[3]), Math.max(box[0], box[2]), Math.max(box[1], box[3])];
  const [p, q] = [sides(a), sides(b)];
  const wide = Math.max(0, Math.min(p[2], q[2]) - Math.max(p[0], q[0]));
  const tall = Math.max(0, Math.min(p[3], q[3]) - Math.max(p[1], q[1]));
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  const union = area(p) + area(q) - wide * tall;
  return union > 0 ? (wide * tall) / union : 0;
}
