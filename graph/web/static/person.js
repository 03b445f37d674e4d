// View "Recommended to you": a person's visit, one item after another.
import { html, useEffect, useRef, useState } from "./lib.js";
import { data, post, server } from "./api.js";
import { Action, Categories, Empty, Field, Loading, Notice, Said, Title, number, useLoaded } from "./parts.js";
import { startRun, startVisit, useVisit } from "./visit_state.js";
import { Recent } from "./visit.js";

const GRAPH = "recommend";
const STARS = [1, 2, 3, 4, 5];

export const PersonView = ({ thing }) => (thing ? html`<${Recommended} key=${thing} id=${thing} />` : html`<${Greeting} />`);

function Greeting() {
  const [name, setName] = useState("");
  const [world, setWorld] = useState("");
  const [liked, setLiked] = useState("");
  const [wishes, setWishes] = useState("");
  const [model, setModel] = useState("");
  const [rounds, setRounds] = useState("");
  const worlds = useLoaded((signal) => data("worlds", { signal }), []);
  const start = async () => {
    const input = {
      ...(name.trim() && !server.accounts ? { user_id: name.trim() } : {}),
      ...(world.trim() ? { world: world.trim() } : {}),
      ...(wishes.trim() ? { wishes: wishes.trim() } : {}),
      ...(rounds ? { max_steps: Number(rounds) } : {}),
      history: liked.split("\n").map((one) => one.trim()).filter(Boolean),
    };
    const thread = await startVisit(GRAPH, input, model.trim() ? { model: model.trim() } : {});
    location.hash = `#/you/${thread.thread_id}`;
  };
  return html`<div class="person"><${Title}>Recommended to you<//>
    ${!server.accounts && html`<${Field} label="Your name" help="What you say is kept under it, for your next visit.">${(id, help) => html`<input id=${id} aria-describedby=${help} autocomplete="nickname" maxlength="500" dir="auto" value=${name} onInput=${(event) => setName(event.target.value)} />`}<//>`}
    <${Field} label="What do you wish for?" help="In your own words, such as: slow films, no horror.">${(id, help) => html`<textarea id=${id} aria-describedby=${help} maxlength="2000" dir="auto" value=${wishes} onInput=${(event) => setWishes(event.target.value)}></textarea>`}<//>
    <${Field} label="Titles that you like" help="One a line; optional.">${(id, help) => html`<textarea id=${id} aria-describedby=${help} dir="auto" value=${liked} onInput=${(event) => setLiked(event.target.value)}></textarea>`}<//>
    <details><summary>World, rounds and model</summary><div class="form">
      <${Field} label="World" help="Empty for the default one.">${(id, help) => html`<input id=${id} aria-describedby=${help} list="your-worlds" value=${world} onInput=${(event) => setWorld(event.target.value)} />`}<//>
      <datalist id="your-worlds">${worlds.value?.built.map((one) => html`<option key=${one} value=${one} />`)}</datalist>
      <${Field} label="Most rounds">${(id) => html`<input id=${id} type="number" min="1" max="2000" placeholder="20" value=${rounds} onInput=${(event) => setRounds(event.target.value)} />`}<//>
      <${Field} label="Model">${(id) => html`<input id=${id} placeholder="rules" value=${model} onInput=${(event) => setModel(event.target.value)} />`}<//>
    </div></details>
    <div class="row"><${Action} onDo=${start}>Begin<//></div>
    <${Recent} view="you" only=${(thread) => thread.metadata?.graph_id === GRAPH} /></div>`;
}

function Recommended({ id }) {
  const visit = useVisit(id);
  const { thread, values, state, busy, error, fault } = visit;
  const asked = busy ? null : state?.interrupts?.[0]?.value ?? state?.tasks?.[0]?.interrupts?.[0]?.value ?? null;
  const last = useRef(null);
  if (asked) last.current = asked;
  const [sent, setSent] = useState(false);
  useEffect(() => { if (!busy) setSent(false); }, [asked?.round, busy]);
  const steps = values?.steps ?? [];
  const answer = async (resume) => {
    await startRun(thread, { assistant_id: GRAPH, command: { resume } });
    setSent(true);
    visit.started();
  };
  const over = !busy && state && !asked && !state.next?.length;
  const shown = asked ?? (over ? null : last.current);
  return html`<div class="person"><${Title}>Recommended to you<//>
    ${error && html`<${Notice} kind="error">${error.message}<//>`}
    ${fault && html`<${Notice} kind="error">${fault}<//>`}
    <p class="soft" role="status">${busy || sent ? "Looking for something for you …" : asked ? `Round ${asked.round}` : over ? "The visit is over." : values ? "" : "Loading …"}</p>
    ${shown && html`<${Offer} key=${shown.round} asked=${shown} waiting=${busy || sent || !asked} answer=${answer} />`}
    ${!shown && !over && !error && html`<${Loading} what="One moment" />`}
    ${over && html`<p>Come back under the same name: what you said is kept. <a href="#/you">Another visit</a></p>`}
    ${steps.length > 0 && html`<h2>So far</h2><ol class="list" reversed>${[...steps].reverse().map((step) => html`<li key=${step.index}>
      <${Said} text=${step.title} /> <span class="soft">${step.left ? "you left" : step.skipped ? "no rating" : `${number(step.reward, 0)} of 5`}</span></li>`)}</ol>`}
    <p><a href="#/memory">What is kept about you</a></p></div>`;
}

function Offer({ asked, waiting, answer }) {
  const [comment, setComment] = useState("");
  const [profile, setProfile] = useState(asked.profile ?? "");
  const [plan, setPlan] = useState("");
  const also = () => ({
    ...(comment.trim() ? { comment: comment.trim() } : {}),
    ...(plan.trim() ? { plan: plan.trim() } : {}),
    ...(profile !== (asked.profile ?? "") ? { profile } : {}),
  });
  const say = (what) => () => answer({ ...what, ...also() });
  return html`<article class="offer" aria-busy=${waiting}>
    <h2><${Said} text=${asked.title} /></h2>
    <${Categories} names=${asked.genres} />
    <p>${asked.why ? `${asked.why[0].toUpperCase()}${asked.why.slice(1)}.` : ""}</p>
    ${asked.unmet?.map((one, place) => html`<p key=${place} class="soft"><${Said} text=${one} /></p>`)}
    <fieldset class="stars"><legend>Your rating</legend>
      ${STARS.map((one) => html`<${Action} key=${one} kind="plain" disabled=${waiting} onDo=${say({ rating: one })}><span aria-hidden="true">${one} ★</span><span class="hidden">${one} of 5</span><//>`)}
    </fieldset>
    <div class="answers">
      <${Action} kind="plain" disabled=${waiting} onDo=${say({ skip: true })}>Skip<//>
      <${Action} kind="plain" disabled=${waiting} onDo=${say({ seen: true })}>I know it<//>
      <${Action} kind="plain" disabled=${waiting} onDo=${say({ never: true })}>Never<//>
      <${Action} kind="danger" disabled=${waiting} onDo=${say({ leave: true })}>Leave<//>
    </div>
    <${Field} label="Comment" help="Kept for later rounds and visits; it goes with your answer.">${(id, help) => html`<textarea id=${id} aria-describedby=${help} rows="2" maxlength="500" dir="auto" value=${comment} onInput=${(event) => setComment(event.target.value)}></textarea>`}<//>
    <details><summary>Your profile, and the next round</summary>
      ${asked.understood_line && html`<p class="soft">${asked.understood_line}</p>`}
      <${Field} label="Your profile" help="What you said so far, a line each. Correct it; it goes with your answer.">${(id, help) => html`<textarea id=${id} aria-describedby=${help} rows="4" maxlength="2000" dir="auto" value=${profile} onInput=${(event) => setProfile(event.target.value)}></textarea>`}<//>
      <${Field} label="Only for the next round" help="Such as: only documentaries.">${(id, help) => html`<input id=${id} aria-describedby=${help} maxlength="500" dir="auto" value=${plan} onInput=${(event) => setPlan(event.target.value)} />`}<//>
    </details>
  </article>`;
}
