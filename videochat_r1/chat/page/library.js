// What to talk about: a list of the server's folder, or a file of one's own, chosen or dropped anywhere on the page.

import { el, fill } from "window/dom";
import { percent } from "window/format";
import { answered } from "window/source";
import { uploaded } from "window/stream";

const MILLISECONDS_TO_TYPE = 200;

/** The chooser; onChoose(item) is called with {key, name, kind, own}. Throws where the server does not answer. */
export async function library({ endings, mostBytes, onChoose }) {
  const state = el("p", { role: "status" });
  const cancel = el("button", { type: "button", hidden: true, on: { click: () => sending?.abort() } }, "cancel");
  const trouble = el("p", { role: "alert" });
  const input = el("input", { type: "file", id: "file", class: "hidden", accept: endings.join(","), on: { change: () => input.files.length > 0 && take(input.files[0]) } });
  const list = el("ul", { class: "media-list", "aria-label": "videos and pictures of the folder" });
  const more = el("p", { class: "soft" });
  const search = el("input", { type: "search", placeholder: "part of a name", "aria-label": "search", on: { input: searchSoon } });
  const offered = el("div", {}, el("h2", {}, "or one of these"), search, list, more);
  const element = el(
    "section",
    { class: "library", "aria-label": "choose a video or picture" },
    el("h1", {}, "What shall we talk about?"),
    el("div", { class: "drop" }, el("p", {}, "Drop a video or picture anywhere on this page, or"), input, el("label", { class: "button", for: "file" }, "choose a file of yours"), el("p", { class: "soft" }, "It stays on the machine of the model, and is removed when you leave this page.")),
    el("div", { class: "sending" }, state, cancel),
    trouble,
    offered,
  );
  let typing = null;
  let sending = null;

  async function show() {
    const wanted = search.value;
    const found = await (await answered(`/api/media?${new URLSearchParams({ text: wanted })}`)).json();
    if (search.value !== wanted) return;
    offered.hidden = wanted === "" && found.media.length === 0;
    fill(list, found.media.map((item) => el("li", {}, el("button", { type: "button", on: { click: () => choose({ ...item, own: false }) } }, item.name))));
    more.textContent = found.more ? "There are more: type a part of the name." : found.media.length === 0 ? "No name has this in it." : "";
  }

  function searchSoon() {
    clearTimeout(typing);
    typing = setTimeout(() => show().catch(fail), MILLISECONDS_TO_TYPE);
  }

  function fail(error) {
    state.textContent = "";
    trouble.textContent = error.message;
  }

  async function take(file) {
    if (sending !== null) return (trouble.textContent = `${file.name} was not taken: another file is on its way.`);
    // A server that takes no more of it cannot say so to a browser that is still sending.
    if (file.size > mostBytes) return fail(new Error(`${file.name} is too large: ${megabytes(mostBytes)} at most can be uploaded.`));
    trouble.textContent = "";
    try {
      const item = await sent(file);
      if (item !== null) await choose(item);
    } catch (error) {
      fail(error);
    }
    input.value = "";
  }

  /** What the server made of a file; null where that was cancelled. */
  async function sent(file) {
    const { signal } = (sending = new AbortController());
    const onShare = (share) => (state.textContent = share < 1 ? `${percent(share)} of ${file.name} is there` : `looking whether ${file.name} can be read …`);
    cancel.hidden = false;
    try {
      return await uploaded(file, { signal, onShare });
    } catch (error) {
      if (!signal.aborted) throw error;
      state.textContent = `${file.name} was not sent.`;
      input.focus();
      return null;
    } finally {
      cancel.hidden = true;
      sending = null;
    }
  }

  async function choose(item) {
    trouble.textContent = "";
    state.textContent = `opening ${item.name} …`;
    try {
      await onChoose(item);
      state.textContent = "";
    } catch (error) {
      fail(error);
    }
  }

  await show();
  return { element, take };
}

const megabytes = (bytes) => `${Number((bytes / 2 ** 20).toPrecision(3))} MB`;

/** Takes files that are dropped on the page. */
export function takeDrops(take) {
  const isFile = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && document.body.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    document.body.classList.remove("dropping");
    if (event.dataTransfer.files.length > 0) take(event.dataTransfer.files[0]);
  });
}
