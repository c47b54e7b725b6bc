// Curves as SVG: one plot with a key, whose values are read off where the pointer is.

import { el, fill, svg } from "window/dom";
import { ticks } from "window/format";

const WIDTH = 420;
const HEIGHT = 200;
const [LEFT, RIGHT, TOP, BOTTOM] = [44, 10, 8, 24];

/** lines: [{name, colour, dashed, points: [[x, y]]}]; onPick(x) is called with the x of a clicked point. */
export function lineChart({ title, lines, low = null, high = null, onPick = null }) {
  const points = lines.flatMap((line) => line.points);
  if (points.length === 0) return null;
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const bottom = low ?? Math.min(...ys);
  const top = Math.max(high ?? Math.max(...ys), bottom + 1e-9);
  const across = (x) => LEFT + ((x - left) / Math.max(right - left, 1e-9)) * (WIDTH - LEFT - RIGHT);
  const down = (y) => HEIGHT - BOTTOM - ((y - bottom) / (top - bottom)) * (HEIGHT - TOP - BOTTOM);
  const path = (own) => own.map(([x, y]) => `${across(x).toFixed(1)},${down(y).toFixed(1)}`).join(" ");
  const cursor = svg("line", { class: "axis", y1: TOP, y2: HEIGHT - BOTTOM, "stroke-opacity": 0 });
  const values = new Map(lines.map((line) => [line.name, el("b", {})]));
  const plot = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${lines.map(inWords).join("; ")}`, class: onPick ? "plot picks" : "plot" },
    ticks(bottom, top, 4).map((y) => [
      svg("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: down(y), y2: down(y) }),
      svg("text", { x: LEFT - 6, y: down(y) + 4, "text-anchor": "end" }, short(y)),
    ]).flat(),
    ticks(left, right, 6).map((x) => svg("text", { x: across(x), y: HEIGHT - 8, "text-anchor": "middle" }, String(x))),
    cursor,
    lines.map((line) => [
      line.points.length > 12 ? svg("polyline", { class: `line ${line.colour} raw`, points: path(line.points) }) : null,
      svg("polyline", { class: `line ${line.colour}${line.dashed ? " dashed" : ""}`, points: path(smoothed(line.points)) }),
      line.points.length === 1 ? svg("circle", { class: line.colour, cx: across(line.points[0][0]), cy: down(line.points[0][1]), r: 3 }) : null,
    ]).flat().filter((part) => part !== null),
  );
  const nearest = (event) => {
    const box = plot.getBoundingClientRect();
    const x = left + ((((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT)) * (right - left);
    return xs.reduce((best, other) => (Math.abs(other - x) < Math.abs(best - x) ? other : best));
  };
  plot.addEventListener("pointermove", (event) => {
    const x = nearest(event);
    for (const [name, value] of Object.entries({ x1: across(x), x2: across(x), "stroke-opacity": 1 })) cursor.setAttribute(name, value);
    for (const [name, value] of values) fill(value, lines.filter((line) => line.name === name).map((line) => at(line, x)).join(""));
  });
  plot.addEventListener("pointerleave", () => {
    cursor.setAttribute("stroke-opacity", 0);
    for (const value of values.values()) fill(value);
  });
  if (onPick !== null) plot.addEventListener("click", (event) => onPick(nearest(event)));
  const firsts = lines.filter((line, place) => lines.findIndex((other) => other.name === line.name) === place);
  // A single line that is called as the chart is has its value behind the title.
  if (firsts.length === 1 && firsts[0].name === title) return el("figure", { class: "chart" }, el("figcaption", {}, title, values.get(title)), plot);
  const key = el("p", { class: "soft" }, firsts.map((line) => el("span", { class: `key ${line.colour}` }, el("i", { class: line.dashed ? "dashed" : "" }), line.name, values.get(line.name))));
  return el("figure", { class: "chart" }, el("figcaption", {}, title), key, plot);
}

function at(line, x) {
  const point = line.points.find(([own]) => own === x);
  return point === undefined ? "" : ` ${short(point[1])}`;
}

function inWords(line) {
  if (line.points.length === 0) return `${line.name} has no values`;
  const [first, last] = [line.points[0], line.points[line.points.length - 1]];
  return `${line.name} from ${short(first[1])} at ${first[0]} to ${short(last[1])} at ${last[0]}`;
}

const short = (value) => (Math.abs(value) > 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5) ? value.toExponential(1) : String(Number(value.toPrecision(3))));

/** The mean around each point, over a twentieth of the line. */
function smoothed(points) {
  const half = Math.floor(points.length / 40);
  return points.map(([x], place) => {
    const around = points.slice(Math.max(place - half, 0), place + half + 1);
    return [x, around.reduce((sum, [, y]) => sum + y, 0) / around.length];
  });
}
