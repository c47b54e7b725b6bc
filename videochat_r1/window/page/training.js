// How training went: what to look at in words, curves of one run or of several over each other, and a map of all groups.

import { lineChart } from "window/charts";
import { el, fill, svg } from "window/dom";
import { number, taskName } from "window/format";
import { ask } from "window/source";

const COLOURS = ["after", "before", "third", "truth", "blind"];
const STRENGTHS = 16;
// Rewards that are no further apart than this are equal.
const EQUAL = 1e-6;
const SHARES = {
  all_equal: "groups all equal",
  whole_video: "whole video",
  "ended/length": "cut off",
  read: "unreadable",
  past_end: "past the end",
};

/** The points of a share; of answers that could be read, those of the others, so that all shares are of what goes wrong. */
const shareOf = (one, task, name) => (name === "read" ? one.tasks[task]?.read?.map(([step, share]) => [step, 1 - share]) : one.tasks[task]?.[name]);

/** The view; `list(filters)` is the address of a list of groups, `to(number, filters)` that of a group. */
export async function trainingView({ run, runs, filters, set, to, list }) {
  const own = await ask(`/api/runs/${run}/training`);
  const wanted = (filters.with ?? "").split(",").filter((text) => text !== "").map(Number).filter((place) => place !== run && place in runs);
  const beside = await Promise.all(wanted.map((place) => ask(`/api/runs/${place}/training`)));
  const shown = [own, ...beside];
  const names = [run, ...wanted].map((place) => runs[place].name);
  const tasks = [...new Set(shown.flatMap((one) => Object.keys(one.tasks)))].sort();
  const metrics = [...new Set(shown.flatMap((one) => Object.keys(one.metrics)))];
  const onPick = (task) => (step) => (location.hash = list({ task, from: step, to: step }));

  /** A chart's lines: of each series one for every run, told apart by dashes where one series has a colour of its own. */
  function lines(series, pointsOf) {
    return series.flatMap(([key, name], place) =>
      shown.map((one, index) => ({
        name: shown.length > 1 && series.length === 1 ? names[index] : name,
        colour: COLOURS[(series.length === 1 ? index : place) % COLOURS.length],
        dashed: index > 0,
        points: pointsOf(one, key) ?? [],
      })),
    );
  }

  function taskCharts(task) {
    const known = new Set(shown.flatMap((one) => Object.keys(one.tasks[task] ?? {})));
    const rewards = [...known].filter((name) => name.startsWith("rewards/")).map((name) => [name, name.slice(8)]);
    const shares = Object.entries(SHARES).filter(([name]) => known.has(name));
    const pointsOf = (one, name) => one.tasks[task]?.[name];
    const pick = onPick(task);
    return el(
      "section",
      { "aria-label": taskName(task) },
      el("h2", {}, taskName(task)),
      el(
        "div",
        { class: "charts" },
        lineChart({ title: "reward", lines: lines([["reward", "reward"]], pointsOf), onPick: pick }),
        lineChart({ title: "what it is made of", lines: lines(rewards, pointsOf), low: 0, high: 1, onPick: pick }),
        lineChart({ title: "shares", lines: lines(shares, (one, name) => shareOf(one, task, name)), low: 0, high: 1, onPick: pick }),
        lineChart({ title: "tokens of an answer", lines: lines([["tokens", "tokens"]], pointsOf), low: 0, onPick: pick }),
      ),
    );
  }

  const element = el(
    "article",
    {},
    el("h1", {}, "Training"),
    runs.length > 1 ? overlays(run, runs, wanted, (places) => set({ with: places.join(",") })) : null,
    own.alarms.length > 0 ? el("ul", { class: "alarms", "aria-label": "what to look at" }, own.alarms.map((text) => el("li", {}, text))) : null,
    tasks.length === 0 && metrics.length === 0 ? el("p", { class: "soft" }, "Nothing is logged yet; this page goes on by itself.") : null,
    tasks.map(taskCharts),
    metrics.length > 0
      ? el(
          "section",
          { "aria-label": "the run" },
          el("h2", {}, "the run"),
          el("div", { class: "charts" }, metrics.map((name) => lineChart({ title: name, lines: lines([[name, name]], (one, key) => one.metrics[key]) }))),
        )
      : null,
    own.cells.length > 0 ? spreadMap(own.cells, (group) => (location.hash = to(group, {}))) : null,
  );
  return { element, keys: {}, attached: () => {}, title: "training" };
}

function overlays(run, runs, wanted, change) {
  return el(
    "fieldset",
    { class: "overlays" },
    el("legend", { class: "soft" }, "drawn over it, dashed"),
    runs.map((one, place) => {
      if (place === run || one.kind !== "training") return null;
      const box = el("input", { type: "checkbox", checked: wanted.includes(place), on: { change: () => change(box.checked ? [...wanted, place] : wanted.filter((other) => other !== place)) } });
      return el("label", {}, box, one.name);
    }),
  );
}

/**
 * Updates from left to right, the groups of each below each other: the paler, the closer its rewards; grey where all are equal.
 * One path for each of few strengths, as thousands of elements would cost a browser a tenth of a second whenever a group is added.
 */
function spreadMap(cells, go) {
  const columns = [...Map.groupBy(cells, ([step]) => step).values()];
  const tallest = Math.max(...columns.map((column) => column.length));
  const most = Math.max(...cells.map(([, , , spread]) => spread)) || 1;
  const side = Math.min(Math.max(Math.floor(1100 / columns.length), 9), 16);
  const note = el("p", { class: "soft", role: "status" }, "Each square is a group: the stronger, the further apart its rewards; grey where all are equal.");
  const squares = new Map();
  columns.forEach((column, x) =>
    column.forEach(([, , , spread], y) => {
      const strength = spread < EQUAL ? 0 : Math.ceil((STRENGTHS * spread) / most);
      squares.set(strength, `${squares.get(strength) ?? ""}M${x * side} ${y * side}h${side - 1}v${side - 1}h${1 - side}z`);
    }),
  );
  const drawn = [...squares].map(([strength, d]) => svg("path", { d, class: strength === 0 ? "blind" : "after", "fill-opacity": strength === 0 ? 0.5 : 0.12 + (0.88 * strength) / STRENGTHS }));
  const [first, last] = [cells[0][0], cells[cells.length - 1][0]];
  const map = svg("svg", { class: "map", width: columns.length * side, height: tallest * side, role: "img", "aria-label": `spread of rewards of the groups of updates ${first} to ${last}` }, drawn);
  const under = (event) => {
    const frame = map.getBoundingClientRect();
    return columns[Math.floor((event.clientX - frame.left) / side)]?.[Math.floor((event.clientY - frame.top) / side)];
  };
  const words = ([step, , task, spread, mean]) => `update ${step}, ${taskName(task)}: rewards ${number(spread)} apart, ${number(mean)} on average`;
  map.addEventListener("pointermove", (event) => {
    const cell = under(event);
    note.textContent = cell === undefined ? "" : words(cell);
  });
  map.addEventListener("click", (event) => {
    const cell = under(event);
    if (cell !== undefined) go(cell[1]);
  });
  return el("section", { "aria-label": "all groups" }, el("h2", {}, "spread of rewards"), note, el("div", { class: "scroll", tabindex: 0 }, map, el("p", { class: "soft ends", style: { width: `${columns.length * side}px` } }, el("span", {}, `update ${first}`), el("span", {}, first === last ? "" : `update ${last}`))));
}
