// The frame: views by the address, the server's state above them, and the token of the tab.
import { html, render, useEffect, useState } from "./lib.js";
import { learnServer, server, signIn, token } from "./api.js";
import { Field, Notice, Title, useServer } from "./parts.js";
import { isOfStudy, VisitView } from "./visit.js";
import { StepView } from "./step.js";
import { PersonView } from "./person.js";
import { MemoryView } from "./memory.js";
import { StudiesView } from "./studies.js";

// `graphs` says whether a view needs a LangGraph server; `billp view` has none.
const VIEWS = {
  visit: { name: "Visit", view: VisitView, graphs: true },
  step: { name: "Step", view: StepView, graphs: true },
  you: { name: "Recommended to you", view: PersonView, graphs: true },
  memory: { name: "Memory", view: MemoryView },
  studies: { name: "Studies", view: StudiesView },
};

// The address: #/VIEW/THING, where the thing is a thread or a run.
function place() {
  const [, view = "", thing = ""] = location.hash.split("/");
  try {
    return { view, thing: decodeURIComponent(thing) };
  } catch {
    // Not an address of this page.
    return { view, thing: "" };
  }
}

function SignIn() {
  const [text, setText] = useState("");
  const [fault, setFault] = useState("");
  const has = Boolean(token());
  if (!server.accounts && !server.refused) return null;
  const submit = (event) => {
    event.preventDefault();
    setText("");
    try {
      signIn(text.trim());
      setFault("");
    } catch (error) {
      setFault(error.message);
    }
  };
  return html`<form class="sign-in" onSubmit=${submit}>
    ${has && !server.refused
      ? html`<button type="button" class="plain" onClick=${() => signIn("")}>Sign out</button>`
      : html`<${Field} label="Token">${(id) => html`<input id=${id} type="password" autocomplete="off" value=${text} onInput=${(event) => setText(event.target.value)} />`}<//>
          <button>Sign in</button>`}
    ${fault && html`<${Notice} kind="error">${fault}<//>`}
  </form>`;
}

function Frame() {
  const [at, setAt] = useState(place());
  const [known, setKnown] = useState(false);
  const state = useServer();
  useEffect(() => {
    const moved = () => { setAt(place()); scrollTo(0, 0); };
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  useEffect(() => {
    if (!known && !state.away) learnServer().then(() => setKnown(true)).catch(() => {});
  }, [known, state.away]);
  const shown = Object.entries(VIEWS).filter(([, one]) => state.graphs || !one.graphs);
  // Visits of studies are shown by every server that shows studies.
  const open = shown.some(([name]) => name === at.view) || (at.view === "visit" && isOfStudy(at.thing));
  const id = open ? at.view : shown[0][0];
  const { name, view: View } = VIEWS[id];
  useEffect(() => { document.title = `${name} – BiLLP`; }, [name]);
  const skip = (event) => {
    event.preventDefault();
    document.querySelector("main h1")?.focus();
  };
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header>
      <span class="brand">BiLLP</span>
      <nav aria-label="Views">
        ${shown.map(([name, one]) => html`<a key=${name} href=${`#/${name}`} aria-current=${name === id ? "page" : undefined}>${one.name}</a>`)}
      </nav>
      <${SignIn} />
    </header>
    ${state.away && html`<${Notice} kind="error">The server does not answer. The page asks again until it does.<//>`}
    ${state.refused && html`<${Notice} kind="error">The server asks for a valid token: sign in above.<//>`}
    <main id="main">${known && state.accounts && !token() && html`<${Title}>Sign in<//><p>This server has accounts: sign in above by your token. It is kept as long as this tab.</p>`}
      ${known && (!state.accounts || token()) && html`<${View} key=${`${id} ${token()}`} thing=${at.thing} />`}</main>`;
}

const page = document.getElementById("page");
page.replaceChildren();
render(html`<${Frame} />`, page);
