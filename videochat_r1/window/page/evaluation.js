// A scored benchmark: its table, distribution and breakdowns; and what changed against another, or between two updates.

import { el, svg } from "window/dom";
import { count, number, signed, taskName } from "window/format";
import { ask } from "window/source";

const percent = (value) => (value === null || value === undefined ? "–" : (100 * value).toFixed(2));

/** The view of an evaluation; `others` may be compared with it. */
export async function evaluationView({ run, runs, filters, set, to, list }) {
  const own = await ask(`/api/runs/${run}/results`);
  const places = runs.map((_, place) => place).filter((place) => place !== run && runs[place].kind === "evaluation");
  const compared = places.includes(Number(filters.with)) && filters.with ? Number(filters.with) : null;
  const other = compared === null ? null : await ask(`/api/runs/${compared}/results`);
  const changed = compared === null ? null : await ask(`/api/runs/${run}/changes`, { with: compared });
  const baselines = Object.entries(own.baselines ?? {}).filter(([, means]) => means !== null);
  const select = el(
    "select",
    { "aria-label": "compared with", on: { change: () => set({ with: select.value }) } },
    el("option", { value: "" }, "compare with …"),
    places.map((place) => el("option", { value: place, selected: place === compared }, runs[place].name)),
  );
  const failures = Object.entries({ ...own.failures, ...own.unscored });
  const element = el(
    "article",
    {},
    el("h1", {}, `${own.benchmark}: ${taskName(own.task)}`),
    el("p", { class: "soft" }, [count(own.num_samples, "sample"), `${own.num_failed} failed`, own.judge ? `judged by ${own.judge}` : null].filter((text) => text !== null).join(" · ")),
    places.length > 0 ? select : null,
    el("h2", {}, "metrics, in percent"),
    table(
      ["metric", runs[run].name, "95 % interval", ...(other === null ? [] : [runs[compared].name, "difference"]), ...baselines.map(([name]) => name.replaceAll("_", " "))],
      Object.entries(own.metrics).map(([name, value]) => [
        name,
        percent(value),
        own.ci95?.[name] ? `${percent(own.ci95[name][0])} to ${percent(own.ci95[name][1])}` : "",
        ...(other === null ? [] : [percent(other.metrics[name]), own.metrics[name] === null || other.metrics[name] == null ? "–" : signed(100 * (value - other.metrics[name]))]),
        ...baselines.map(([, means]) => percent(means[name])),
      ]),
      own.headline,
    ),
    el("p", {}, el("a", { href: list({ order: "worst" }) }, "worst samples"), " · ", el("a", { href: list({ order: "best" }) }, "best samples"), " · ", el("a", { href: list({ flags: "unparsable" }) }, "unparsable")),
    changed === null ? null : changesView({ changed, to: (one) => to(one.number, { with: compared }), words: ["better here", "worse here"] }),
    el("h2", {}, `${own.headline} of each sample`),
    histogram(own.histogram, own.headline),
    failures.length > 0 ? [el("h2", {}, "failures"), table(["kind", "samples"], failures.map(([kind, found]) => [kind, String(found)]))] : null,
    Object.entries(own.by ?? {}).map(([name, groups]) => breakdown(name, groups)).flat(),
    el("h2", {}, "definitions"),
    el("dl", {}, Object.entries(own.definitions ?? {}).map(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]).flat()),
  );
  return { element, keys: {}, attached: () => {}, title: own.benchmark };
}

function breakdown(name, groups) {
  const metrics = [...new Set(Object.values(groups).flatMap((means) => Object.keys(means)))].filter((metric) => metric !== "num_samples");
  return [
    el("h2", {}, `by ${name.replaceAll("_", " ")}`),
    table(["", "samples", ...metrics], Object.entries(groups).map(([group, means]) => [group, String(means.num_samples), ...metrics.map((metric) => percent(means[metric]))])),
  ];
}

function table(head, rows, strong = null) {
  return el(
    "div",
    { class: "scroll", tabindex: 0 },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, head.map((text, place) => el("th", { class: place === 0 ? "text" : null, scope: "col" }, text)))),
      el("tbody", {}, rows.map((row) => el("tr", { class: row[0] === strong ? "strong" : null }, row.map((text, place) => el("td", { class: place === 0 ? "text" : null }, text))))),
    ),
  );
}

function histogram(counts, name) {
  const most = Math.max(...counts, 1);
  const [wide, tall] = [24, 120];
  return svg(
    "svg",
    { class: "histogram", viewBox: `0 0 ${counts.length * wide} ${tall + 22}`, role: "img", "aria-label": `${name} of samples: ${counts.map((value, place) => `${value} from ${place / counts.length}`).join(", ")}` },
    counts.map((value, place) =>
      svg("rect", { class: "after", x: place * wide + 1, width: wide - 2, y: tall - (tall * value) / most, height: (tall * value) / most }, svg("title", {}, `${value} of ${(place / counts.length).toFixed(2)} to ${((place + 1) / counts.length).toFixed(2)}`)),
    ),
    svg("line", { class: "axis", x1: 0, x2: counts.length * wide, y1: tall, y2: tall }),
    [0, 0.25, 0.5, 0.75, 1].map((value) => svg("text", { x: value * counts.length * wide, y: tall + 16, "text-anchor": value === 0 ? "start" : value === 1 ? "end" : "middle" }, String(value))),
  );
}

/** Lists of what was learned and forgotten; `to(one)` is the address of a sample's group. */
export function changesView({ changed, to, words = ["learned", "forgotten"] }) {
  const lists = ["learned", "forgotten"].map((kind, place) =>
    el(
      "section",
      { "aria-label": words[place] },
      el("h3", {}, `${words[place]}: ${changed.counts[kind]}`),
      el(
        "ol",
        { class: "changes" },
        changed[kind].map((one) => el("li", {}, el("a", { href: to(one) }, one.sample), el("span", { class: "reward" }, `${number(one.before)} → ${number(one.after)}`))),
      ),
    ),
  );
  const mean = changed.mean_change === null ? "" : `, ${signed(changed.mean_change, 3)} on average`;
  return el("div", {}, el("p", { class: "soft", role: "status" }, `${count(changed.counts.compared, "sample")} in both${mean}`), el("div", { class: "columns" }, lists));
}

/** What a run learned and forgot between two of its updates. */
export async function changesPage({ run, about, filters, set, to }) {
  const [first, last] = about.steps ?? [0, 0];
  const from = Number(filters.from ?? Math.round(first + (last - first) / 3));
  const until = Number(filters.to ?? last);
  const changed = await ask(`/api/runs/${run}/changes`, { from, to: until });
  const field = (name, value, text) => {
    const input = el("input", { type: "number", id: name, value, min: first, max: last, on: { change: () => set({ [name]: input.value }) } });
    return el("label", {}, `${text} `, input);
  };
  const element = el(
    "article",
    {},
    el("h1", {}, "Learned and forgotten"),
    el("p", {}, "The mean reward of a sample's last group up to one update, against its last group up to a later one."),
    el("p", { class: "filters" }, field("from", from, "from update"), field("to", until, "to update")),
    changesView({ changed, to: (one) => to(one.number, {}) }),
  );
  return { element, keys: {}, attached: () => {}, title: "learned and forgotten" };
}
