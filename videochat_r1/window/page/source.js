// Where the page's data come from: its server, or the page itself where it was sent as one file.

const held = document.getElementById("data");
const exported = held === null ? null : JSON.parse(held.textContent);

export const isExported = exported !== null;

/** The answer of an address as JSON; throws an Error with a sentence for people. */
export async function ask(address, parameters = {}) {
  const words = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null && value !== ""));
  if (isExported) {
    if (address in exported.answers) return exported.answers[address];
    throw new Error("This page was sent with some groups only, and this is none of them.");
  }
  return (await answered(`${address}?${words}`)).json();
}

/** What the server answers to a request; throws an Error with a sentence for people, or the one of an aborted signal. */
export async function answered(address, request = {}) {
  let answer;
  try {
    answer = await fetch(address, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The window's server does not answer. Is its command still running?");
  }
  if (!answer.ok) throw new Error(answer.status === 404 ? "There is nothing at this place any more." : await answer.text());
  return answer;
}

export const groupAddress = (run, group) => `/api/runs/${run}/groups/${group}`;

/** Where a picture or video is loaded from; null where the page was sent without it. */
export const mediaAddress = (address) => (isExported ? (exported.media[address] ?? null) : address);

/** Calls back with what the runs are now, whenever that changes. */
export function onNews(listener) {
  if (isExported) return;
  const news = new EventSource("/api/news");
  news.addEventListener("message", (message) => listener(JSON.parse(message.data)));
}
