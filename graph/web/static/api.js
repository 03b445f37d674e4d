// The server's own API: requests, streams, the token of the tab, and whether the server answers at all.

const ROOT = new URL("../", document.baseURI);
const TOKEN = "billp-token";
const TOKEN_SIGNS = /^[\x21-\x7e]+$/;
const RETRY_MS = 1500;

// Facts about the server that views show; listeners hear of each change.
export const server = { away: false, refused: false, graphs: true, accounts: false };
const listeners = new Set();

export function onServer(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function note(changes) {
  if (Object.entries(changes).every(([name, value]) => server[name] === value)) return;
  Object.assign(server, changes);
  for (const listener of [...listeners]) listener();
}

// The token lives as long as the tab, and is never part of an address.
export const token = () => sessionStorage.getItem(TOKEN) ?? "";

export function signIn(text) {
  // Headers admit no others, and a browser takes its own refusal for a server that is gone.
  if (text && !TOKEN_SIGNS.test(text)) throw new Fault("A token has ASCII letters, digits and signs only: copy it again.");
  if (text) sessionStorage.setItem(TOKEN, text);
  else sessionStorage.removeItem(TOKEN);
  note({ refused: false });
  for (const listener of [...listeners]) listener();
}

export class Fault extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export const isAbort = (error) => error?.name === "AbortError";

let waiting = null;

// Ask for the server's health until it answers.
function waitForServer() {
  note({ away: true });
  waiting ??= (async () => {
    for (;;) {
      await new Promise((done) => setTimeout(done, RETRY_MS));
      try {
        if ((await fetch(new URL("ok", ROOT), { cache: "no-store" })).ok) break;
      } catch {
        continue;
      }
    }
    waiting = null;
    note({ away: false });
  })();
  return waiting;
}

export const back = () => waiting ?? Promise.resolve();

async function ask(path, { method = "GET", body, signal } = {}) {
  const headers = {};
  if (body !== undefined) headers["content-type"] = "application/json";
  if (token()) headers.authorization = `Bearer ${token()}`;
  let answer;
  try {
    answer = await fetch(new URL(path, ROOT), {
      method,
      headers,
      signal,
      credentials: "omit",
      cache: "no-store",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (isAbort(error)) throw error;
    waitForServer();
    throw new Fault("The server does not answer.");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) note({ refused: true });
  throw new Fault(await reason(answer), answer.status);
}

async function reason(answer) {
  const text = await answer.text().catch(() => "");
  try {
    const { detail, message } = JSON.parse(text);
    const said = detail ?? message;
    return typeof said === "string" ? said : JSON.stringify(said ?? text);
  } catch {
    return text.slice(0, 300) || `The server answers ${answer.status}.`;
  }
}

export async function call(path, options) {
  const answer = await ask(path, options);
  return answer.status === 204 ? null : answer.json();
}

export const post = (path, body, options = {}) => call(path, { method: "POST", body, ...options });

// Data of the page beyond LangGraph's API.
export const data = (path, options) => call(`app/api/${path}`, options);

// Yield the events of a stream as { event, data }.
export async function* stream(path, options) {
  const answer = await ask(path, options);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      ended = done;
      if (done) return;
      rest += value.replaceAll("\r", "");
      const blocks = rest.split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const found = parsed(block);
        if (found) yield found;
      }
    }
  } catch (error) {
    if (isAbort(error)) throw error;
    waitForServer();
    throw new Fault("The server does not answer.");
  } finally {
    if (!ended) reader.cancel().catch(() => {});
  }
}

function parsed(block) {
  let event = "message";
  const lines = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) lines.push(line.slice(5));
  }
  return lines.length ? { event, data: JSON.parse(lines.join("\n")) } : null;
}

export async function learnServer() {
  const { graphs, accounts } = await data("server");
  note({ graphs, accounts });
}

export async function graphOf(assistant) {
  return call(`assistants/${encodeURIComponent(assistant)}/graph`);
}

export const threadPath = (thread) => `threads/${encodeURIComponent(thread)}`;
