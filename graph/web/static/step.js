// View "Step": stop between nodes, edit what comes next, go on, and go back to any checkpoint.
import { html, useEffect, useRef, useState } from "./lib.js";
import { data, isAbort, post, threadPath } from "./api.js";
import { Action, Empty, Field, Loading, Notice, Title, Said, when } from "./parts.js";
import { detailsOf, history, PAGE_SIZE, riskless, runToRisk, startRun, stopRuns, USERS, useVisit } from "./visit_state.js";
import { Graph, ordered } from "./graph.js";
import { Chart, Round, RoundDetails } from "./rounds.js";
import { Facts, Recent } from "./visit.js";

export const StepView = ({ thing }) => (thing ? html`<${Stepped} key=${thing} id=${thing} />` : html`<${Title}>Step<//>
  <p>Choose a visit to step through, edit or fork. <a href="#/visit">A new visit</a> can stop before its first round.</p>
  <${Recent} view="step" />`);

function Stepped({ id }) {
  const visit = useVisit(id);
  const [chosen, setChosen] = useState(null);
  const { busy, ride, leave, ended } = useRideToRisk(visit);
  const { thread, values, graph, working, error, fault, state } = visit;
  if (!values || !graph) {
    return html`<${Title}>Step<//>${error ? html`<${Notice} kind="error">${error.message}<//>` : html`<${Loading} what="Loading the visit" />`}`;
  }
  const base = chosen ?? state;
  const next = busy ? working : base.next?.[0];
  const shown = chosen ? chosen.values : values;
  const changed = () => { setChosen(null); visit.reload(); };
  const started = () => { setChosen(null); visit.started(chosen?.values); };
  return html`<${Title}>Step<//>
    <${Facts} visit=${visit} />
    ${fault && html`<${Notice} kind="error">${fault}<//>`}
    ${ended && html`<${Notice} kind=${ended.kind}>${ended.words}<//>`}
    <${Graph} graph=${graph} working=${next} />
    ${chosen && html`<${Notice}>You look at the checkpoint before <strong>${next ?? "the end"}</strong> of round ${roundOf(chosen, ordered(graph))}. To go on from here makes a fork.
      <button type="button" class="plain" onClick=${() => setChosen(null)}>Back to the latest<//><//>`}
    <div class="split"><div>
      ${busy
        ? html`<div class="row"><${Action} kind="danger" onDo=${() => { leave(); return stopRuns(id); }}>Stop<//></div>`
        : next
          ? html`<${Controls} visit=${visit} from=${chosen} next=${next} onDone=${started}
                onRide=${(first, risk) => ride(first, risk, (one) => (one.checkpoint ? started() : visit.started()))} />
              <${Edit} key=${base.checkpoint?.checkpoint_id} id=${id} base=${base} from=${chosen} onDone=${changed} />`
          : html`<p>The visit is over here. Choose a checkpoint to go back to.</p>`}
      <h2>State</h2>
      ${shown.plan && html`<p><span class="soft">Plan:</span> <${Said} text=${shown.plan} /></p>`}
      ${shown.proposal?.title && html`<p><span class="soft">Proposal:</span> <${Said} text=${shown.proposal.title} /></p>`}
      <${RoundDetails} ...${detailsOf(shown)} />
      <${Chart} steps=${shown.steps ?? []} />
      <ol class="cards">${(shown.steps ?? []).map((step) => html`<${Round} key=${step.index} step=${step} />`)}</ol>
    </div><div>
      <${Checkpoints} id=${id} graph=${graph} latest=${state?.checkpoint?.checkpoint_id} busy=${busy} chosen=${chosen} choose=${setChosen} />
      <h2>Two forks</h2>
      <p class="soft">A copy keeps all checkpoints. Fork each and see them side by side.</p>
      <${Copy} id=${id} />
    </div></div>`;
}

// Runs of a visit until the user is about to leave. Between them the visit counts as busy.
function useRideToRisk(visit) {
  const [riding, setRiding] = useState(false);
  const [ended, setEnded] = useState(null);
  const leaving = useRef(null);
  const leave = () => leaving.current?.abort();
  useEffect(() => leave, []);
  const ride = async (first, risk, onStart) => {
    const { graph, thread, state } = visit;
    const user = graph.nodes.map((one) => one.id).find((one) => USERS.includes(one));
    leaving.current = new AbortController();
    const { signal } = leaving.current;
    setEnded(null);
    setRiding(true);
    try {
      const found = await runToRisk(thread, first, { user, risk, latest: state?.checkpoint?.checkpoint_id, signal, onStart });
      if (!signal.aborted) setEnded({ words: rideWords(found, risk) });
    } catch (error) {
      if (!isAbort(error)) setEnded({ kind: "error", words: error.message });
    }
    setRiding(false);
    visit.reload();
  };
  return { busy: visit.busy || riding, ride, leave, ended };
}

function rideWords(found, risk) {
  const share = (one) => `${Number((100 * one).toPrecision(3))}%`;
  const told = found.risk === null
    ? `No shown item had a leave risk of ${share(risk)} or more.`
    : `The user is about to leave: the item that they get next has a leave risk of ${share(found.risk)}.`;
  return found.unknown ? `${told} The risk of ${found.unknown} shown item${found.unknown === 1 ? " was" : "s was"} unknown.` : told;
}

function Copy({ id }) {
  const [made, setMade] = useState(null);
  const copy = async () => setMade((await post(`${threadPath(id)}/copy`, {})).thread_id);
  return html`<div class="row"><${Action} kind="plain" onDo=${copy}>Copy this visit<//></div>
    ${made && html`<p role="status">Copied: <a href=${`#/step/${made}`}>step through the copy</a>, or see <a href=${`#/visit/${id}+${made}`}>both side by side</a>.</p>`}`;
}

// Leave risk from which on a user counts as about to leave, in percent: an outlook's items rarely reach it (docs/web.md).
const ABOUT_TO_LEAVE = 5;

function Controls({ visit, from, next, onDone, onRide }) {
  const { thread, graph, values } = visit;
  const [before, setBefore] = useState([]);
  const [after, setAfter] = useState([]);
  const [risk, setRisk] = useState(String(ABOUT_TO_LEAVE));
  const nodes = ordered(graph);
  const first = nodes.find((one) => one.loop)?.name;
  const given = {
    assistant_id: thread.metadata.assistant_id ?? thread.metadata.graph_id,
    input: null,
    ...(from ? { checkpoint: from.checkpoint } : {}),
  };
  const run = (stops) => async () => {
    await startRun(thread, { ...given, ...stops });
    onDone();
  };
  const boxes = (name, chosen, set) => html`<fieldset><legend>${name}</legend><div class="choices">
    ${nodes.map((one) => html`<label key=${one.name}><input type="checkbox" checked=${chosen.includes(one.name)}
      onChange=${(event) => set(event.target.checked ? [...chosen, one.name] : chosen.filter((other) => other !== one.name))} />${one.name}</label>`)}
  </div></fieldset>`;
  const stops = { ...(before.length ? { interrupt_before: before } : {}), ...(after.length ? { interrupt_after: after } : {}) };
  const why = riskless(graph, thread, values);
  const share = Number(risk) / 100;
  return html`<div class="row">
      <${Action} onDo=${run({ interrupt_before: "*" })}>Run ${next}<//>
      <${Action} kind="plain" onDo=${run({ interrupt_before: first ? [first] : "*" })}>Run to the next round<//>
      <${Action} kind="plain" onDo=${run(stops)}>${before.length + after.length ? "Go on to a stop" : "Go on to the end"}<//>
    </div>
    <details><summary>Stops</summary>${boxes("Stop before", before, setBefore)}${boxes("Stop after", after, setAfter)}
      <fieldset disabled=${Boolean(why)}><legend>Stop when the user is about to leave</legend>
        <${Field} label="Leave risk of the shown item, from (%)"
          help=${why || "Runs round by round while this page is open, and stops before the user's turn. An item of unknown risk does not stop it."}>
          ${(id, help) => html`<input id=${id} aria-describedby=${help} type="number" min="0" max="100" step="any" value=${risk} onInput=${(event) => setRisk(event.target.value)} />`}<//>
        <div class="row"><${Action} kind="plain" disabled=${Boolean(why) || !(share > 0 && share <= 1)} onDo=${() => onRide(given, share)}>Run until the user is about to leave<//></div>
      </fieldset></details>`;
}

function Edit({ id, base, from, onDone }) {
  const { values } = base;
  const [plan, setPlan] = useState(values.plan ?? "");
  const [json, setJson] = useState("");
  const save = (changes) => async () => {
    await post(`${threadPath(id)}/state`, { values: changes, ...(from ? { checkpoint: from.checkpoint } : {}) });
    onDone();
  };
  const saveJson = async () => {
    let changes;
    try {
      changes = JSON.parse(json);
    } catch (error) {
      throw new Error(`This is not JSON (${error.message}): write an object of fields.`);
    }
    await save(changes)();
  };
  const propose = (item) => save({ proposal: { text: item.title, item_id: item.item_id, title: item.title, genres: item.genres } })();
  return html`<h2>Edit</h2>
    ${values.edited && html`<p class="soft">Somebody edited this visit; its memories stay private to its user.</p>`}
    <${Field} label="Plan" help="An order for this round: only items that meet it are on the shortlist. Edited before the Planner's turn, it stands.">
      ${(field, help) => html`<textarea id=${field} aria-describedby=${help} dir="auto" rows="2" maxlength="10000" value=${plan} onInput=${(event) => setPlan(event.target.value)}></textarea>`}<//>
    <div class="row"><${Action} kind="plain" disabled=${plan === (values.plan ?? "")} onDo=${save({ plan })}>Save the plan<//></div>
    <${Proposal} values=${values} propose=${propose} />
    <details><summary>Other fields</summary>
      <${Field} label="Fields as JSON" help='An entry of "steps" replaces the round with its "index".'>
        ${(field, help) => html`<textarea id=${field} aria-describedby=${help} spellcheck=${false} rows="4" value=${json} onInput=${(event) => setJson(event.target.value)}></textarea>`}<//>
      <div class="row"><${Action} kind="plain" disabled=${!json.trim()} onDo=${saveJson}>Save the fields<//></div>
    </details>`;
}

function Proposal({ values, propose }) {
  const [query, setQuery] = useState("");
  const [found, setFound] = useState(null);
  const [picked, setPicked] = useState(values.proposal?.item_id ?? "");
  const items = [...(values.shortlist ?? []), ...(found ?? [])];
  const worlds = async () => values.identity?.world || (await data("worlds")).default;
  const search = async () => setFound(await data(`worlds/${encodeURIComponent(await worlds())}/items?q=${encodeURIComponent(query)}`));
  const item = items.find((one) => one.item_id === picked);
  return html`<details open=${Boolean(values.proposal)}><summary>Proposal</summary>
    <p class="help">The Actor's proposal counts after its turn, before the user's.</p>
    <div class="form">
      <${Field} label="Item">${(field) => html`<select id=${field} value=${picked} onChange=${(event) => setPicked(event.target.value)}>
        <option value="">none</option>
        ${items.map((one, place) => html`<option key=${`${place} ${one.item_id}`} value=${one.item_id}>${one.title} (${one.genres.join(", ")})</option>`)}</select>`}<//>
      <${Field} label="Search the catalogue">${(field) => html`<input id=${field} type="search" dir="auto" value=${query} onInput=${(event) => setQuery(event.target.value)} />`}<//>
    </div>
    <div class="row">
      <${Action} kind="plain" disabled=${!query.trim()} onDo=${search}>Search items<//>
      <${Action} kind="plain" disabled=${!item || picked === values.proposal?.item_id} onDo=${() => propose(item)}>Propose this item<//>
      ${found && html`<span role="status" class="soft">${found.length} found</span>`}
    </div>
  </details>`;
}

// The round of a checkpoint, from 1: after the user's turn, the round that the next nodes still work on has its record.
function roundOf(state, nodes) {
  const done = (state.values?.steps ?? []).length;
  const names = nodes.map((one) => one.name);
  const answered = names.indexOf(names.find((name) => USERS.includes(name)));
  const next = names.indexOf(state.next?.[0]);
  return next > answered || next < 0 ? Math.max(done, 1) : done + 1;
}

const NAMES = { __start__: "the start" };

function Checkpoints({ id, graph, latest, busy, chosen, choose }) {
  const nodes = ordered(graph);
  const [states, setStates] = useState(null);
  const [more, setMore] = useState(false);
  const [fault, setFault] = useState("");
  const load = async (before) => {
    const page = await history(id, { before });
    setStates((known) => (before ? [...(known ?? []), ...page] : page));
    setMore(page.length >= PAGE_SIZE);
  };
  useEffect(() => {
    if (!busy) load().then(() => setFault("")).catch((error) => setFault(error.message));
  }, [latest, busy]);
  return html`<h2>Checkpoints</h2>
    ${fault && html`<${Notice} kind="error">${fault}<//>`}
    ${!states && !fault && html`<${Loading} />`}
    ${states && (states.length
      ? html`<ul class="list">${states.map((one) => html`<li key=${one.checkpoint.checkpoint_id}><div class="row">
          <span class="grow">round ${one.next?.[0] === "__start__" ? 1 : roundOf(one, nodes)}, before <strong>${NAMES[one.next?.[0]] ?? one.next?.[0] ?? "the end"}</strong>
            <span class="soft"> ${one.metadata?.source === "update" ? "edited, " : one.metadata?.source === "fork" ? "forked, " : ""}${when(one.created_at)}</span></span>
          <button type="button" class=${`plain ${chosen?.checkpoint.checkpoint_id === one.checkpoint.checkpoint_id ? "pressed" : ""}`}
            aria-pressed=${chosen?.checkpoint.checkpoint_id === one.checkpoint.checkpoint_id} disabled=${busy || one.checkpoint.checkpoint_id === latest}
            onClick=${() => choose(one)}>Go back</button></div></li>`)}</ul>
        ${more && html`<${Action} kind="plain" onDo=${() => load(states.at(-1).checkpoint)}>Earlier ones<//>`}`
      : html`<${Empty}>No checkpoint yet.<//>`)}`;
}
