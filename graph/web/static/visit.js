// View "Visit": start a visit and watch it, or read one by the thread in the address.
import { html, useState } from "./lib.js";
import { call, data, graphOf, post, server } from "./api.js";
import { Action, Empty, Field, Loading, Notice, Title, count, number, pending, Said, useLoaded, when } from "./parts.js";
import { Graph, ordered } from "./graph.js";
import { Chart, Lessons, Round } from "./rounds.js";
import { Control, SettingsForm, trimmed } from "./settings_form.js";
import { startVisit, stopRuns, useVisit } from "./visit_state.js";

// The address of a visit of a study holds its study and its number there. Neither threads nor studies have a colon in
// their names.
export const studyVisit = (study, number) => `#/visit/${encodeURIComponent(study)}:${number}`;
export const isOfStudy = (thing) => thing.includes(":");

// A person's visit has a view of its own.
const OWN_VIEW = "recommend";

// The thing is a thread, two threads with a plus between them, or a visit of a study.
export function VisitView({ thing }) {
  if (!thing) return html`<${Start} />`;
  if (isOfStudy(thing)) return html`<${OfStudy} key=${thing} thing=${thing} />`;
  const ids = thing.split("+");
  if (ids.length < 2) return html`<${Watched} key=${thing} id=${thing} />`;
  return html`<${Title}>Two visits<//><div class="beside">${ids.slice(0, 2).map((id, place) => html`<section key=${`${place} ${id}`} aria-label=${`Visit ${place + 1}`}><${Column} id=${id} /></section>`)}</div>`;
}

export const recentVisits = (signal, limit = 12) =>
  post("threads/search", { limit, sort_by: "updated_at", sort_order: "desc", select: ["thread_id", "status", "metadata", "updated_at"] }, { signal });

function Start() {
  const assistants = useLoaded((signal) => post("assistants/search", { limit: 100 }, { signal }), []);
  return html`<${Title}>Visit<//>
    ${pending(assistants) ?? html`<${VisitForm} assistants=${assistants.value.filter((one) => one.graph_id !== OWN_VIEW)} />`}
    <${Recent} view="visit" />`;
}

export function Recent({ view, only = (thread) => thread.metadata?.graph_id !== OWN_VIEW }) {
  const loaded = useLoaded((signal) => recentVisits(signal), []);
  const threads = loaded.value?.filter((one) => one.metadata?.graph_id && only(one));
  return html`<h2>Latest visits</h2>
    ${pending(loaded) ?? (threads.length
      ? html`<ul class="list">${threads.map((one) => html`<li key=${one.thread_id}><a href=${`#/${view}/${one.thread_id}`}>${one.metadata.variant ?? one.metadata.graph_id}${one.metadata.world ? ` in ${one.metadata.world}` : ""}${one.metadata.user_id ? html`, user <${Said} text=${one.metadata.user_id} />` : ""}</a>
          <span class="soft"> ${one.status}, ${when(one.updated_at)}</span></li>`)}</ul>`
      : html`<${Empty}>No visit yet.<//>`)}`;
}

function VisitForm({ assistants }) {
  const first = assistants.find((one) => one.graph_id === "episode") ?? assistants[0];
  const [chosen, setChosen] = useState(first?.assistant_id);
  const assistant = assistants.find((one) => one.assistant_id === chosen);
  const loaded = useLoaded(async (signal) => {
    const [schemas, graph] = await Promise.all([call(`assistants/${chosen}/schemas`, { signal }), graphOf(chosen)]);
    return { chosen, schemas, graph };
  }, [chosen]);
  const worlds = useLoaded((signal) => data("worlds", { signal }), []);
  const [input, setInput] = useState({});
  const [context, setContext] = useState({});
  const [stepped, setStepped] = useState(false);
  if (!assistant) return html`<${Notice} kind="error">The server has no graph of a visit.<//>`;
  const ready = loaded.value?.chosen === chosen ? loaded.value : null;
  const start = async () => {
    const nodes = ordered(ready.graph);
    const options = stepped ? { interrupt_before: [nodes.find((one) => one.loop)?.name ?? nodes[0].name] } : {};
    const known = ready.schemas.context_schema?.properties ?? {};
    const settings = Object.fromEntries(Object.entries(context).filter(([name]) => name in known));
    const thread = await startVisit(chosen, trimmed(input), settings, options);
    location.hash = `#/${stepped ? "step" : "visit"}/${thread.thread_id}`;
  };
  const change = (name) => (value) => {
    const { [name]: _, ...rest } = input;
    setInput(value === undefined ? rest : { ...rest, [name]: value });
  };
  return html`<div class="form">
      <${Field} label="Variant" help=${assistant.description}>${(id, help) => html`<select id=${id} aria-describedby=${help} value=${chosen} onChange=${(event) => setChosen(event.target.value)}>
        ${assistants.map((one) => html`<option key=${one.assistant_id} value=${one.assistant_id}>${one.name === one.graph_id ? one.graph_id : `${one.name} (${one.graph_id})`}</option>`)}</select>`}<//>
    </div>
    ${loaded.error && html`<${Notice} kind="error">${loaded.error.message}<//>`}
    ${!ready && !loaded.error && html`<${Loading} />`}
    ${ready && html`<div>
      <datalist id="worlds">${worlds.value?.built.map((one) => html`<option key=${one} value=${one} />`)}</datalist>
      <fieldset><legend>User</legend><div class="form">
        ${Object.entries(ready.schemas.input_schema.properties).map(([name, schema]) => html`<${Control} key=${name} name=${name} schema=${schema} value=${input[name]} set=${change(name)} list=${name === "world" ? "worlds" : undefined} />`)}
      </div>
      ${!server.accounts && html`<${UserSearch} world=${input.world || worlds.value?.default} choose=${change("user_id")} />`}</fieldset>
      <${SettingsForm} schema=${ready.schemas.context_schema ?? {}} nodes=${ready.graph.nodes.map((one) => one.id)} values=${context} set=${setContext} />
      <div class="row">
        <label class="row"><input type="checkbox" checked=${stepped} onChange=${(event) => setStepped(event.target.checked)} /> Stop before the first round, to step through it</label>
      </div>
      <div class="row"><${Action} onDo=${start}>Start the visit<//></div>
    </div>`}`;
}

function UserSearch({ world, choose }) {
  const [query, setQuery] = useState("");
  const [found, setFound] = useState(null);
  if (!world) return null;
  const search = async () => setFound(await data(`worlds/${encodeURIComponent(world)}/users?q=${encodeURIComponent(query)}`));
  return html`<details><summary>Find a user of ${world}</summary>
    <div class="form"><${Field} label="Id, or a title of the history">${(id) => html`<input id=${id} type="search" dir="auto" value=${query} onInput=${(event) => setQuery(event.target.value)} onKeyDown=${(event) => event.key === "Enter" && search().catch(() => {})} />`}<//></div>
    <div class="row"><${Action} kind="plain" onDo=${search}>Search users<//></div>
    ${found && (found.length
      ? html`<ul class="list">${found.map((one) => html`<li key=${one.id}><button type="button" class="plain" onClick=${() => choose(one.id)}>User <${Said} text=${one.id} /></button>
          <span class="soft"> ${one.split}, ${one.rated} ratings; last: </span><${Said} text=${one.history.join("; ")} /></li>`)}</ul>`
      : html`<${Empty}>No user found.<//>`)}
  </details>`;
}

// Facts about a visit, for all views that show one.
export function Facts({ visit }) {
  const { thread, values = {}, busy } = visit;
  const steps = values.steps ?? [];
  const stayed = steps.filter((step) => !step.left);
  const total = values.total_reward ?? stayed.reduce((sum, step) => sum + step.reward, 0);
  const usage = values.usage ?? {};
  const paused = visit.state?.next?.length > 0;
  const said = busy ? "under way" : visit.fault ? "failed" : paused ? `stopped before ${visit.state.next.join(", ")}` : values.left ? `the user left${values.leave_reason ? ` (${values.leave_reason})` : ""}` : "finished";
  const about = [
    ["variant", visit.state?.metadata?.variant ?? thread?.metadata?.graph_id],
    ["world", values.identity?.world || "default"],
    ["user", html`<${Said} text=${values.identity?.user_id ?? values.user_id ?? ""} />`],
    ["rounds", `${steps.length} of ${values.identity?.max_steps ?? "–"}`],
    ["total reward", number(total)],
    ["model calls", count(usage.calls)],
    ["tokens", `${count(usage.prompt_tokens)} + ${count(usage.completion_tokens)}`],
    ["cost", usage.cost ? `$${usage.cost.toFixed(4)}` : "none"],
    ["state", said],
  ];
  return html`<dl class="facts">${about.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Watched({ id }) {
  const visit = useVisit(id);
  const { values, graph, busy, working, error, fault } = visit;
  if (!values && error) return html`<${Title}>Visit<//><${Notice} kind="error">${error.message}<//>`;
  if (!values) return html`<${Title}>Visit<//><${Loading} what="Loading the visit" />`;
  const steps = values.steps ?? [];
  return html`<${Title}>Visit<//>
    <${Facts} visit=${visit} />
    ${fault && html`<${Notice} kind="error">${fault}<//>`}
    <${Graph} graph=${graph} working=${working} />
    <div class="row actions">
      ${busy && html`<${Action} kind="danger" onDo=${() => stopRuns(id)}>Stop<//>`}
      ${!busy && html`<a href=${`#/step/${id}`}>Step, edit or fork this visit</a>`}
      <a href="#/visit">Start another visit</a>
    </div>
    <${Chart} steps=${steps} most=${busy ? Math.min(values.identity?.max_steps ?? 0, 100) : steps.length} />
    <h2>Rounds</h2>
    ${steps.length
      ? html`<ol class="cards">${steps.map((step) => html`<${Round} key=${step.index} step=${step} detailsFor=${visit.detailsFor} />`)}</ol>`
      : html`<${Empty}>${busy ? "The first round is under way." : "No round yet."}<//>`}
    <h2>Lessons recalled</h2><${Lessons} items=${values.lessons} />`;
}

// A visit of a finished study, as its files hold it: prompts, shortlists and checkpoints are gone.
function OfStudy({ thing }) {
  const [study, number] = thing.split(":");
  const loaded = useLoaded((signal) => data(`runs/${encodeURIComponent(study)}/visits/${encodeURIComponent(number)}`, { signal }), [thing]);
  const waiting = pending(loaded);
  if (waiting) return html`<${Title}>Visit<//>${waiting}`;
  const { variant, world, user_id, max_steps, seed, steps, ...values } = loaded.value;
  const rounds = steps.map((step, index) => ({ ...step, index }));
  const visit = { state: { metadata: { variant } }, values: { ...values, steps: rounds, identity: { world, user_id, max_steps } } };
  return html`<${Title}>Visit<//>
    <p>Visit ${Number(number) + 1} of the study <a href=${`#/studies/${encodeURIComponent(study)}`}>${study}</a>, ${values.split} users, seed ${seed}.</p>
    <${Facts} visit=${visit} />
    <${Chart} steps=${rounds} />
    <h2>Rounds</h2>
    ${rounds.length ? html`<ol class="cards">${rounds.map((step) => html`<${Round} key=${step.index} step=${step} />`)}</ol>` : html`<${Empty}>No round.<//>`}
    <h2>Lessons recalled</h2><${Lessons} items=${values.lessons} />`;
}

// One of two visits side by side.
function Column({ id }) {
  const visit = useVisit(id);
  if (!visit.values) return visit.error ? html`<${Notice} kind="error">${visit.error.message}<//>` : html`<${Loading} what="Loading the visit" />`;
  const steps = visit.values.steps ?? [];
  return html`<h2><a href=${`#/step/${id}`}>Visit ${id.slice(-6)}</a></h2><${Facts} visit=${visit} /><${Chart} steps=${steps} />
    <ol class="cards">${steps.map((step) => html`<${Round} key=${step.index} step=${step} detailsFor=${visit.detailsFor} />`)}</ol>`;
}
