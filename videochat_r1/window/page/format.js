// Numbers and names as people read them.

export const TASKS = {
  temporal_grounding: "temporal grounding",
  grounded_qa: "grounded QA",
  multi_choice_qa: "multiple choice",
};

export const taskName = (task) => TASKS[task] ?? task.replaceAll("_", " ");

export const number = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));

export const signed = (value, digits = 2) =>
  value === null || value === undefined ? "–" : (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);

export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

/** A probability, of which small ones matter too. */
export const share = (value) => (value < 0.001 ? "under 0.1\u00a0%" : `${Number((100 * value).toPrecision(value < 0.1 ? 1 : 2))}\u00a0%`);

export const seconds = (value) => `${Number(value.toFixed(2))} s`;

export const count = (value, what) => `${value.toLocaleString("en")} ${what}${value === 1 ? "" : "s"}`;

export const spansText = (spans) => spans.map(([start, end]) => `${Number(start.toFixed(2))} to ${seconds(end)}`).join(", ");

/** What of a video a look shows, of its `segments` and the rate of the rest. */
export const shownText = ({ segments, rest_fps: rest }) => (segments.length === 0 ? "the whole video" : rest ? `the whole video, with more of ${spansText(segments)}` : spansText(segments));

/** An answer's name where there is little room. */
export const shortName = (one) => one.name.replace("answer ", "#").slice(-12);

const ENDED = {
  stop: "ended by itself",
  length: "cut off at the length limit",
  unscored: "could not be scored",
  video_error: "the video could not be read",
  prompt_error: "the prompt could not be made",
};

export const endedText = (ended) => ENDED[ended] ?? ended.replaceAll("_", " ");

/** Round steps between two numbers, at most so many. */
export function ticks(low, high, most = 8) {
  const span = Math.max(high - low, 1e-9);
  const power = 10 ** Math.floor(Math.log10(span / most));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => span / size <= most);
  const first = Math.ceil(low / step - 1e-9);
  const found = [];
  for (let place = first; place * step <= high + 1e-9; place++) found.push(Number((place * step).toPrecision(12)));
  return found;
}
