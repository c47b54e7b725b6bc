// What only a conversation asks its server for: answers as they are written, and uploads with how far they are.

import { answered } from "window/source";

/** A value that the server keeps or answers, as JSON. */
export const posted = async (address, value) => (await answered(address, { method: "POST", body: JSON.stringify(value) })).json();

/** Calls onEvent with every event of an answer, until there are no more; aborting the signal stops the model. */
export async function streamed(address, value, { signal, onEvent }) {
  const answer = await answered(address, { method: "POST", body: JSON.stringify(value), signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let last = null;
  for (;;) {
    const { value: text, done } = await broken(reader.read());
    if (done) break;
    const messages = (rest + text).split("\n\n");
    rest = messages.pop();
    for (const message of messages) {
      if (!message.startsWith("data: ")) continue;
      last = JSON.parse(message.slice(6));
      onEvent(last);
    }
  }
  if (!["done", "problem"].includes(last?.event)) throw new Error("The answer broke off: the server ended.");
}

async function broken(reading) {
  try {
    return await reading;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The answer broke off: the server cannot be reached any more.");
  }
}

/** Sends a file, telling onShare how much of it is there; what the server made of it. Aborting the signal has it removed there. */
export function uploaded(file, { signal, onShare }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let allThere = false;
    request.open("POST", `/api/media?${new URLSearchParams({ name: file.name })}`);
    request.upload.addEventListener("progress", (event) => onShare(event.lengthComputable ? event.loaded / event.total : 0));
    request.upload.addEventListener("load", () => (allThere = true));
    request.addEventListener("load", () => {
      if (request.status !== 200) return reject(new Error(request.responseText || "The server did not take the file."));
      const item = { ...JSON.parse(request.responseText), own: true };
      if (signal.aborted) forget(item);
      resolve(item);
    });
    request.addEventListener("error", () => reject(new Error("The file could not be sent: the server does not answer, or took no more of it.")));
    signal.addEventListener("abort", () => {
      // What is all there has a name once the server has answered.
      if (!allThere) request.abort();
      reject(signal.reason);
    });
    request.send(file);
  });
}

/** Has the server remove what was uploaded, also as the page goes; of others nothing is removed. */
export function forget(item) {
  if (item?.own) fetch(`/api/media/${item.key}`, { method: "DELETE", keepalive: true }).catch(() => {});
}
