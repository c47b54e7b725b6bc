// The frame around all views: which one the address names, the keys, and what is new.

import { el, fill } from "window/dom";
import { count, percent } from "window/format";
import { changesPage, evaluationView } from "window/evaluation";
import { groupView } from "window/group";
import { groupsView } from "window/groups";
import { ask, isExported, onNews } from "window/source";
import { trainingView } from "window/training";

// A page of curves is drawn anew at most so often: it may share the processor with the training that it shows.
const MILLISECONDS_BETWEEN_CURVES = 10000;
const VIEWS = {
  training: { training: "Training", groups: "Groups", changes: "Learned" },
  evaluation: { evaluation: "Evaluation", groups: "Samples" },
};

const KEYS = [
  ["j k", "next and previous answer"],
  ["l h", "next and previous group"],
  ["n p", "next and previous update"],
  ["space , .", "play, half a second back and on"],
  ["s t", "what the model saw, what tokens are shaded by"],
  ["/", "search"],
  ["?", "these keys"],
];

const state = { runs: [], view: null, drawn: 0, soon: null, curves: 0 };
const bar = el("header", { class: "bar" });
const main = el("main", { id: "main", tabindex: -1 });
const help = el(
  "dialog",
  { "aria-label": "keys" },
  el("h2", {}, "Keys"),
  el("dl", {}, KEYS.map(([keys, what]) => [el("dt", {}, keys.split(" ").map((key) => el("kbd", {}, key))), el("dd", {}, what)]).flat()),
  el("form", { method: "dialog" }, el("button", {}, "close")),
);

/** `#/run/view/number?filters` as its parts. */
function place() {
  const [path, words] = location.hash.replace(/^#\/?/, "").split("?");
  const [run, view, item] = path.split("/");
  return { run: Number(run) || 0, view: view || "groups", item: Number(item) || null, filters: Object.fromEntries(new URLSearchParams(words)) };
}

function addressOf(run, view, item, filters) {
  const words = new URLSearchParams(Object.entries(filters).filter(([, value]) => value !== "" && value !== null));
  return `#/${run}/${view}${item === null ? "" : `/${item}`}${words.size > 0 ? `?${words}` : ""}`;
}

async function draw() {
  const { run, view, item, filters } = place();
  const about = state.runs[run];
  const turn = ++state.drawn;
  drawBar(run, view);
  if (about === undefined) return fill(main, el("p", {}, "There is no such run in this window."));
  // Over what the address says by then: a change may come before the view of the one before it.
  const set = (changes) => (location.hash = addressOf(run, view, null, { ...place().filters, ...changes }));
  const to = (number, narrowed = filters) => addressOf(run, "groups", number, narrowed);
  const list = (narrowed) => addressOf(run, "groups", null, narrowed);
  const shared = { run, runs: state.runs, about, filters, set, to, list };
  let made;
  try {
    if (view === "training") made = await trainingView(shared);
    else if (view === "evaluation") made = await evaluationView(shared);
    else if (view === "changes") made = await changesPage(shared);
    else if (item !== null) made = await groupView({ ...shared, number: item });
    else made = groupsView(shared);
    if (view === "training") {
      made.news = drawSoon;
      state.curves = performance.now();
    }
  } catch (error) {
    made = { element: el("p", { role: "alert" }, error.message), keys: {}, attached: () => {}, title: "" };
  }
  if (turn !== state.drawn) return;
  state.view = made;
  document.title = `${made.title ? `${made.title} · ` : ""}${about.name}`;
  fill(main, made.element);
  made.attached();
}

function drawSoon() {
  if (state.soon) return;
  const since = performance.now() - state.curves;
  state.soon = setTimeout(() => {
    state.soon = null;
    if (place().view === "training") draw();
  }, Math.max(MILLISECONDS_BETWEEN_CURVES - since, 0));
}

function drawBar(run, view) {
  const about = state.runs[run];
  const names = state.runs.map((one, place) => el("option", { value: place, selected: place === run }, one.name));
  const select = el("select", { "aria-label": "run", on: { change: () => (location.hash = addressOf(Number(select.value), "groups", null, {})) } }, names);
  fill(
    bar,
    el("a", { class: "skip", href: "#main", on: { click: (event) => (event.preventDefault(), main.focus()) } }, "to the content"),
    state.runs.length > 1 ? select : el("strong", {}, about?.name ?? ""),
    el("nav", { "aria-label": "views" }, Object.entries(isExported ? { groups: "Groups" } : (VIEWS[about?.kind] ?? {})).map(([name, title]) => el("a", { href: addressOf(run, name, null, {}), "aria-current": view === name ? "page" : null }, title))),
    el("span", { class: "soft", role: "status", id: "news" }, about === undefined ? "" : newsText(about)),
    el("button", { type: "button", title: "key ?", on: { click: () => help.showModal() } }, "keys"),
  );
}

const namesOf = (runs) => JSON.stringify(runs.map(({ name, kind }) => [name, kind]));

function newsText(about) {
  const read = about.read < 1 ? `, ${percent(about.read)} of the log is read` : "";
  const damaged = about.damaged > 0 ? `, ${count(about.damaged, "damaged line")} left out` : "";
  return `${count(about.groups, "group")}${about.steps?.[1] ? ` up to update ${about.steps[1]}` : ""}${read}${damaged}`;
}

addEventListener("hashchange", draw);
addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, dialog") !== null;
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target.closest("button, a, video") !== null) return;
  if (event.key === "?") return help.showModal();
  const act = state.view?.keys[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

document.body.append(bar, main, help);
state.runs = await ask("/api/runs");
await draw();
if (!isExported) {
  onNews((runs) => {
    const { run, view } = place();
    const before = state.runs;
    state.runs = runs;
    if (JSON.stringify(runs[run]) === JSON.stringify(before[run])) return;
    // Whoever stands on a link of the bar stays there.
    if (namesOf(runs) === namesOf(before)) document.getElementById("news").textContent = newsText(runs[run]);
    else drawBar(run, view);
    state.view?.news?.();
  });
}
