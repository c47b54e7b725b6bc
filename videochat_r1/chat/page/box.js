// A box around something on the first frame: drawn with the mouse, moved with the keys, or written as numbers.

import { el, svg } from "window/dom";

const SIDES = ["left", "top", "right", "bottom"];
const FIRST = [0.35, 0.35, 0.65, 0.65];
const STEP = 0.01;
const LEAST = 0.01;

/**
 * The tool. `surface` lies over the frame, `fields` holds the numbers in percent; onChange(box) is called with
 * [left, top, right, bottom] in fractions, or null.
 */
export function boxTool(onChange) {
  let box = null;
  let from = null;
  const rect = svg("rect", { class: "box before" });
  const halo = svg("rect", { class: "halo" });
  const surface = svg("svg", { class: "boxes drawn", viewBox: "0 0 1 1", preserveAspectRatio: "none", tabindex: 0, role: "group", "aria-label": "the first frame: drag to draw the box; arrow keys move it, with shift they change its size" }, halo, rect);
  const inputs = SIDES.map((side, place) =>
    el("input", { type: "number", min: 0, max: 100, step: 0.1, "aria-label": `${side} in percent`, on: { change: () => write(place) } }),
  );
  const fields = el("fieldset", { class: "sides" }, el("legend", {}, "Draw a box around it on the first frame, or write its sides in percent"), SIDES.map((side, place) => el("label", {}, side, inputs[place])));

  function set(sides) {
    box = sides === null ? null : ordered(sides.map((side) => Math.min(Math.max(side, 0), 1)));
    const [x0, y0, x1, y1] = box ?? [0, 0, 0, 0];
    for (const shape of [halo, rect]) {
      for (const [name, value] of Object.entries({ x: x0, y: y0, width: x1 - x0, height: y1 - y0 })) shape.setAttribute(name, value);
      shape.setAttribute("visibility", box === null ? "hidden" : "visible");
    }
    inputs.forEach((input, place) => (input.value = box === null ? "" : Number((100 * box[place]).toFixed(1))));
    onChange(box);
  }

  function write(place) {
    const sides = [...(box ?? FIRST)];
    const value = Number(inputs[place].value) / 100;
    if (inputs[place].value === "" || !Number.isFinite(value)) return set(box);
    sides[place] = value;
    set(sides);
  }

  const at = (event) => {
    const frame = surface.getBoundingClientRect();
    return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
  };
  surface.addEventListener("pointerdown", (event) => {
    from = at(event);
    surface.setPointerCapture(event.pointerId);
  });
  surface.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const to = at(event);
    if (Math.abs(to[0] - from[0]) > LEAST && Math.abs(to[1] - from[1]) > LEAST) set([...from, ...to]);
  });
  for (const end of ["pointerup", "pointercancel"]) surface.addEventListener(end, () => (from = null));
  surface.addEventListener("keydown", (event) => {
    const [right, down] = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key] ?? [0, 0];
    if ((right === 0 && down === 0) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (box === null) return set(FIRST);
    const [x0, y0, x1, y1] = box;
    if (event.shiftKey) return set([x0, y0, Math.max(x1 + right, x0 + LEAST), Math.max(y1 + down, y0 + LEAST)]);
    const shift = [Math.min(Math.max(right, -x0), 1 - x1), Math.min(Math.max(down, -y0), 1 - y1)];
    set([x0 + shift[0], y0 + shift[1], x1 + shift[0], y1 + shift[1]]);
  });
  set(null);
  return { surface, fields, clear: () => set(null), value: () => box };
}

const ordered = ([a, b, c, d]) => [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
