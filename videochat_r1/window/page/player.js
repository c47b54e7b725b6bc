// The video or the pictures of a group, with boxes drawn on the frame as it plays.

import { el, fill, svg } from "window/dom";
import { isExported, mediaAddress } from "window/source";

/**
 * A player. onTime(seconds) is called as it plays and seeks, onLength(seconds) once its length is known.
 *
 * tracks: [{key, colour, boxes: [[x0, y0, x1, y1] or null], times}] of boxes at these seconds, or, without `times`, at evenly spaced
 * instants from the start.
 */
export function player({ address, media, tracks, onTime, onLength }) {
  const boxes = svg("svg", { class: "boxes", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
  const video = el("video", { controls: true, muted: true, playsinline: true, preload: "auto", tabindex: 0 });
  video.muted = true;
  const note = el("p", { class: "soft", role: "status" });
  const stage = el("div", { class: "stage" }, video, boxes);
  const element = el("div", { class: "player" }, stage, note);
  let picked = null;
  let until = Infinity;
  let usesCopy = media.kind === "frames";
  // A clip's own time begins at its start.
  const begin = media.start ?? 0;
  const length = () => Math.min(media.end ?? Infinity, video.duration) - begin;

  function load() {
    const source = mediaAddress(`${address}/${usesCopy && !isExported ? "copy" : "video"}`);
    if (source === null) return fail("This page was sent without the video.");
    video.src = source;
    if (media.kind === "frames") note.textContent = `${media.count} image files, each until the next one's time`;
  }

  function fail(why) {
    stage.hidden = true;
    note.textContent = why;
  }

  function useCopy() {
    if (usesCopy || isExported) return fail("This video cannot be played: it cannot be decoded.");
    usesCopy = true;
    note.textContent = "This browser does not play the file itself; making a copy that it plays …";
    load();
  }

  video.addEventListener("error", useCopy);
  video.addEventListener("loadedmetadata", () => {
    if (video.videoWidth === 0) return useCopy();
    stage.style.setProperty("--ratio", video.videoWidth / video.videoHeight);
    if (usesCopy && media.kind !== "frames") note.textContent = "shown as a copy that this browser plays";
    video.currentTime = begin;
    onLength(length());
    draw();
  });
  for (const event of ["timeupdate", "seeking", "seeked"]) video.addEventListener(event, tell);
  video.addEventListener("play", function follow() {
    tell();
    if (!video.paused && video.isConnected) requestAnimationFrame(follow);
  });

  function tell() {
    const end = Math.min(begin + length(), until);
    if (video.currentTime >= end && !video.paused) {
      video.pause();
      // However late a busy browser tells of it.
      video.currentTime = end;
      until = Infinity;
    }
    onTime(Math.max(video.currentTime - begin, 0));
    draw();
  }

  function draw() {
    if (tracks.length === 0 || !video.duration) return;
    const share = (video.currentTime - begin) / length();
    const drawn = [];
    for (const track of [...tracks].sort((a, b) => order(a) - order(b))) {
      const exact = track.times === undefined ? share * track.boxes.length : placeOf(video.currentTime - begin, track.times);
      const box = boxAt(track.boxes, exact, media.kind !== "frames");
      if (box === null) continue;
      const [x0, y0, x1, y1] = box;
      const place = { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) };
      const shown = track.key === "truth" ? "truth" : String(track.key) === String(picked) ? "picked" : "other";
      drawn.push(svg("rect", { ...place, class: `halo ${shown}` }), svg("rect", { ...place, class: `box ${track.colour} ${shown}`, "data-key": track.key }));
    }
    fill(boxes, drawn);
  }

  // The truth on top, and dashed, so that a box which is exactly right shows through it.
  const order = (track) => (track.key === "truth" ? 2 : String(track.key) === String(picked) ? 1 : 0);

  if (media.problem !== null) fail(media.problem);
  else load();
  return {
    element,
    stage,
    video,
    time: () => video.currentTime - begin,
    seek: (time) => {
      until = Infinity;
      video.currentTime = begin + time;
      tell();
    },
    /** Plays a part, in seconds. */
    play: (start, end) => {
      video.currentTime = begin + start;
      until = begin + end;
      // Whoever pauses before it has begun breaks no promise.
      video.play().catch(() => {});
    },
    setTracks: (others) => {
      tracks = others;
      fill(boxes);
      draw();
    },
    pick: (key) => {
      picked = key;
      draw();
    },
  };
}

/** Where a time lies among others: 1.5 in the middle between those at the places 1 and 2. */
function placeOf(time, times) {
  const after = times.findIndex((other) => other > time);
  if (after < 0) return times.length - 1;
  return after === 0 ? 0 : after - 1 + (time - times[after - 1]) / (times[after] - times[after - 1]);
}

/** The box at a place among others: between two places what lies between their boxes, or, where the picture does not move, the first. */
export function boxAt(boxes, wanted, moves) {
  const exact = Math.min(Math.max(wanted, 0), boxes.length - 1);
  const place = moves ? exact : Math.floor(exact + 1e-3);
  const before = boxes[Math.floor(place)] ?? null;
  const after = boxes[Math.ceil(place)] ?? null;
  if (before === null || after === null) return before;
  const part = place - Math.floor(place);
  return before.map((value, side) => value + part * (after[side] - value));
}

/** The pictures of a group side by side. */
export function pictures({ address, media }) {
  if (media.problem !== null) return el("p", { class: "soft" }, media.problem);
  return el(
    "div",
    { class: "pictures" },
    Array.from({ length: media.count }, (_, place) =>
      el("img", { src: mediaAddress(`${address}/pictures/${place}`), alt: `picture ${place + 1} of ${media.count}` }),
    ),
  );
}
