// Small parts that all views share.
import { html, useEffect, useRef, useState } from "./lib.js";
import { back, isAbort, onServer, server } from "./api.js";

export const Notice = ({ kind = "note", children }) =>
  html`<p class=${`notice ${kind}`} role=${kind === "error" ? "alert" : "status"}>${children}</p>`;

export const Loading = ({ what = "Loading" }) => html`<p class="soft" role="status">${what} …</p>`;

export const Empty = ({ children }) => html`<p class="soft empty">${children}</p>`;

// A title that takes the focus when its view opens, so that a screen reader reads on from there.
export function Title({ children }) {
  const at = useRef(null);
  useEffect(() => at.current?.focus({ preventScroll: true }), []);
  return html`<h1 tabindex="-1" ref=${at}>${children}</h1>`;
}

export function useServer() {
  const [, changed] = useState(0);
  useEffect(() => onServer(() => changed((count) => count + 1)), []);
  return server;
}

// Load something, again when an input changes, and again when a server that was away is back.
export function useLoaded(load, inputs) {
  const [state, setState] = useState({ loading: true });
  const [turn, again] = useState(0);
  useEffect(() => {
    const leaving = new AbortController();
    setState((before) => ({ ...before, loading: true, error: null }));
    load(leaving.signal)
      .then((value) => leaving.signal.aborted || setState({ value, loading: false }))
      .catch((error) => {
        if (isAbort(error) || leaving.signal.aborted) return;
        setState((before) => ({ ...before, loading: false, error }));
        if (server.away) back().then(() => leaving.signal.aborted || again((count) => count + 1));
      });
    return () => leaving.abort();
  }, [...inputs, turn]);
  return { ...state, reload: () => again((count) => count + 1) };
}

// What a loaded view shows instead of content; null when there is content.
export function pending({ loading, error, value }) {
  if (error) return html`<${Notice} kind="error">${error.message}<//>`;
  if (loading && value === undefined) return html`<${Loading} />`;
  return null;
}

let fields = 0;

// A label with its control; `children` is a function that gets the id of the control and of its help.
export function Field({ label, help, children, wide }) {
  const id = useRef(`field-${++fields}`).current;
  return html`<div class=${wide ? "field wide" : "field"}>
    <label for=${id}>${label}</label>
    ${children(id, help ? `${id}-help` : undefined)}
    ${help && html`<p class="help" id=${`${id}-help`}>${help}</p>`}
  </div>`;
}

export const number = (value, digits = 2) =>
  value === null || value === undefined ? "–" : Number(value).toFixed(digits).replace("-", "−");

export const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(0)}%`);

export const count = (value) => Number(value ?? 0).toLocaleString("en");

export const when = (text) => (text ? new Date(text).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) : "");

// A text from outside: its own direction, so that right-to-left letters do not turn its surroundings.
export const Said = ({ text, lang }) => html`<bdi lang=${lang}>${text}</bdi>`;

// A long text of its own lines; it scrolls, so the keyboard can reach it.
export const Block = ({ name, text }) => html`<pre dir="auto" tabindex="0" role="region" aria-label=${name}>${text}</pre>`;

export const Categories = ({ names }) =>
  names?.length ? html`<span class="tags">${names.map((name) => html`<bdi class="tag" key=${name}>${name}</bdi>`)}</span>` : null;

// A button that shows its work and the fault of it.
export function Action({ children, onDo, kind = "", disabled }) {
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState("");
  const gone = useRef(false);
  useEffect(() => () => { gone.current = true; }, []);
  const run = async () => {
    setBusy(true);
    setFault("");
    try {
      await onDo();
    } catch (error) {
      if (!isAbort(error) && !gone.current) setFault(error.message);
    }
    if (!gone.current) setBusy(false);
  };
  return html`<button type="button" class=${kind} disabled=${disabled || busy} aria-busy=${busy} onClick=${run}>${children}</button>
    ${fault && html`<${Notice} kind="error">${fault}<//>`}`;
}
