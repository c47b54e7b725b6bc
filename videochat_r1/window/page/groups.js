// The list of a run's groups: narrowed down, ordered, searched; only the rows in sight are asked for and drawn.

import { el, fill } from "window/dom";
import { count, number, taskName } from "window/format";
import { ask, isExported } from "window/source";

const ROW = 40;
const PAGE = 100;
const FLAGS = {
  unparsable: "unparsable",
  truncated: "truncated",
  whole_video: "whole video",
  all_equal: "all equal",
  unscored: "unscored",
};
const ORDERS = { log: "oldest first", newest: "newest first", disagreement: "largest disagreement", best: "best first", worst: "worst first" };

/** The list; `filters` is what the address says, `set(changes)` changes some of it, `to(number)` is the address of a group. */
export function groupsView({ run, about, filters, set, to }) {
  const flags = new Set((filters.flags ?? "").split(",").filter((flag) => flag in FLAGS));
  const search = el("input", {
    type: "search",
    id: "search",
    placeholder: "text in a question or an answer",
    "aria-label": "search",
    value: filters.text ?? "",
    on: { change: () => set({ text: search.value.trim() }) },
  });
  const form = el(
    "form",
    { class: "filters", role: "search", on: { submit: (event) => event.preventDefault() } },
    choice("task", "all tasks", about.tasks.map((task) => [task, taskName(task)]), filters, set),
    about.sources.length > 1 ? choice("source", "all corpora", about.sources.map((source) => [source, source]), filters, set) : null,
    choice("order", null, Object.entries(ORDERS), filters, set),
    search,
    el(
      "fieldset",
      {},
      el("legend", { class: "hidden" }, "only groups with"),
      Object.entries(FLAGS).map(([flag, name]) => {
        const box = el("input", { type: "checkbox", checked: flags.has(flag), on: { change: () => toggle(flag, box.checked) } });
        return el("label", {}, box, name);
      }),
    ),
    narrowed(filters, set),
  );

  function toggle(flag, on) {
    if (on) flags.add(flag);
    else flags.delete(flag);
    set({ flags: [...flags].join(",") });
  }

  const status = el("p", { class: "soft", role: "status" });
  const list = filters.text ? found({ run, filters, to, status }) : scrolled({ run, filters, to, status });
  // A page of some groups alone has nothing to choose from.
  const element = el("article", {}, el("h1", {}, "Groups"), isExported ? null : form, status, list.element);
  return { element, keys: { "/": () => search.focus() }, attached: list.attached, news: list.news ?? (() => {}), title: "groups" };
}

function choice(name, none, entries, filters, set) {
  const select = el(
    "select",
    { "aria-label": name, on: { change: () => set({ [name]: select.value }) } },
    none === null ? null : el("option", { value: "" }, none),
    entries.map(([value, text]) => el("option", { value, selected: filters[name] === value }, text)),
  );
  return select;
}

/** What a link from elsewhere narrowed the list to, with a way back. */
function narrowed(filters, set) {
  const parts = [];
  if (filters.sample) parts.push([`sample ${filters.sample}`, { sample: "" }]);
  if (filters.from) parts.push([filters.from === filters.to ? `update ${filters.from}` : `updates ${filters.from} to ${filters.to}`, { from: "", to: "" }]);
  return parts.map(([text, without]) => el("button", { type: "button", class: "chip", on: { click: () => set(without) } }, `${text} ✕`));
}

function row(one, to) {
  const flags = [
    one.equal ? "all equal" : null,
    one.unread ? `${one.unread} unparsable` : null,
    one.cut ? `${one.cut} truncated` : null,
    one.whole ? `${one.whole} whole video` : null,
    one.unscored ? `${one.unscored} unscored` : null,
  ].filter((flag) => flag !== null);
  return el(
    "a",
    { href: to(one.number), "data-number": one.number },
    el("span", { class: "soft" }, one.step ? `update ${one.step}` : `${one.number}`),
    el("span", {}, taskName(one.task)),
    el("span", { class: "sample" }, one.sample),
    el("span", { class: "reward" }, number(one.mean), one.size > 1 ? el("span", { class: "soft" }, ` ± ${number(one.spread / 2)}`) : null),
    el("span", {}, flags.map((flag) => el("span", { class: "flag" }, flag))),
  );
}

/** All groups behind one scroll bar. */
function scrolled({ run, filters, to, status }) {
  const inner = el("div", { class: "rows" });
  const element = el("div", { class: "list", tabindex: -1, on: { scroll: draw, keydown: walk } }, inner);
  const pages = new Map();
  let total = null;

  async function load(page) {
    pages.set(page, null);
    let answer;
    try {
      answer = await ask(`/api/runs/${run}/groups`, { ...filters, first: page * PAGE, limit: PAGE });
    } catch (error) {
      // Whoever scrolls on asks again.
      pages.delete(page);
      status.textContent = error.message;
      return;
    }
    pages.set(page, answer.rows);
    total = answer.count;
    status.textContent = count(total, "group");
    draw();
  }

  function draw() {
    if (total === null) return;
    inner.style.setProperty("height", `${total * ROW}px`);
    const first = Math.max(Math.floor(element.scrollTop / ROW) - 5, 0);
    const last = Math.min(Math.ceil((element.scrollTop + element.clientHeight) / ROW) + 5, total);
    const focused = document.activeElement?.dataset?.number;
    const drawn = [];
    for (let place = first; place < last; place++) {
      const page = Math.floor(place / PAGE);
      if (!pages.has(page)) load(page);
      const one = pages.get(page)?.[place % PAGE];
      if (one === undefined) continue;
      const line = row(one, to);
      line.style.setProperty("top", `${place * ROW}px`);
      line.dataset.place = place;
      drawn.push(line);
    }
    fill(inner, drawn);
    if (focused !== undefined) inner.querySelector(`[data-number="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  function walk(event) {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const place = Number(document.activeElement?.dataset?.place ?? -1) + (move ?? 0);
    if (move === undefined || place < 0 || place >= total) return;
    event.preventDefault();
    event.stopPropagation();
    if (place * ROW < element.scrollTop) element.scrollTop = place * ROW;
    if ((place + 1) * ROW > element.scrollTop + element.clientHeight) element.scrollTop = (place + 1) * ROW - element.clientHeight;
    draw();
    inner.querySelector(`[data-place="${place}"]`)?.focus({ preventScroll: true });
  }

  function news() {
    // The last page may have more rows now; with another order any may be another.
    if (filters.order && filters.order !== "log") pages.clear();
    else pages.delete(Math.max(...pages.keys()));
    load(Math.floor(Math.max((total ?? 0) - 1, 0) / PAGE));
  }

  return { element, attached: () => load(0), news };
}

/** What a search finds, as it finds it. */
function found({ run, filters, to, status }) {
  const element = el("div", { class: "list found" });
  const more = el("button", { type: "button", hidden: true, on: { click: lookOn } }, "search on");
  let after = 0;
  let hits = 0;

  async function look(wanted) {
    more.hidden = true;
    const until = hits + wanted;
    for (let done = false; !done && hits < until && (hits === 0 || element.isConnected); ) {
      status.textContent = `${count(hits, "group")} found, searching …`;
      const answer = await ask(`/api/runs/${run}/groups`, { ...filters, after, limit: until - hits });
      ({ after, done } = answer);
      hits += answer.rows.length;
      element.append(...answer.rows.map((one) => row(one, to)));
      status.textContent = `${count(hits, "group")} found${done ? "" : " so far"}`;
      more.hidden = done;
    }
  }

  function lookOn() {
    look(200).catch((error) => {
      status.textContent = error.message;
      more.hidden = false;
    });
  }

  return { element: el("div", {}, element, more), attached: lookOn };
}
