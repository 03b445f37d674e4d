// View "Studies": finished runs with their reports, and two of them side by side.
import { html, useState } from "./lib.js";
import { data, server } from "./api.js";
import { Action, Empty, Field, Notice, Said, Title, number, pending, useLoaded, when } from "./parts.js";
import { studyVisit } from "./visit.js";

export function StudiesView({ thing }) {
  if (server.accounts) return html`<${Title}>Studies<//><${Empty}>A server with accounts shows no studies: run billp view where they are.<//>`;
  return thing ? html`<${Study} key=${thing} name=${thing} />` : html`<${List} />`;
}

const interval = (ci) => (ci ? ` (${number(ci[0], 1)} to ${number(ci[1], 1)})` : "");
const reportOf = (name) => `api/runs/${encodeURIComponent(name)}/report`;

function List() {
  const runs = useLoaded((signal) => data("runs", { signal }), []);
  return html`<${Title}>Studies<//>
    ${pending(runs) ?? (runs.value.length
      ? html`<ul class="list">${runs.value.map((one) => html`<li key=${one.name}>
          <a href=${`#/studies/${encodeURIComponent(one.name)}`}><strong>${one.name}</strong></a>
          ${one.fault ? html`<${Notice} kind="error">${one.fault}<//>` : html`<span class="soft"> ${one.world}, ${one.model}${one.ended ? `, ${when(one.ended)}` : ""}</span>
            ${one.report && html` <a href=${reportOf(one.name)} target="_blank" rel="noopener">Report</a>`}
            <p><${Said} text=${one.verdict} /></p>`}</li>`)}</ul>`
      : html`<${Empty}>No finished study under BILLP_HOME: billp study makes one.<//>`)}`;
}

function Study({ name }) {
  const run = useLoaded((signal) => data(`runs/${encodeURIComponent(name)}`, { signal }), [name]);
  const runs = useLoaded((signal) => data("runs", { signal }), []);
  const [other, setOther] = useState("");
  const others = runs.value?.filter((one) => one.name !== name && !one.fault) ?? [];
  return html`<${Title}>Study ${name}<//><p><a href="#/studies">All studies</a></p>
    ${pending(run) ?? html`<p><${Said} text=${run.value.verdict} /></p><p class="soft"><${Said} text=${run.value.note} /></p>
      ${run.value.report && html`<p><a href=${reportOf(name)} target="_blank" rel="noopener">Report of this study</a></p>`}
      <${Rows} rows=${run.value.rows} />
      <div class="form"><${Field} label="Side by side with">${(id) => html`<select id=${id} value=${other} onChange=${(event) => setOther(event.target.value)}>
        <option value="">no other study</option>${others.map((one) => html`<option key=${one.name} value=${one.name}>${one.name}</option>`)}</select>`}<//></div>
      ${other && html`<${Beside} key=${other} one=${name} two=${other} />`}
      <${Visits} name=${name} />`}`;
}

// The visits of a row, in the order in which they were made.
function Visits({ name }) {
  const [row, setRow] = useState("");
  const [pages, setPages] = useState(1);
  const loaded = useLoaded((signal) => data(
    `runs/${encodeURIComponent(name)}/visits?row=${encodeURIComponent(row)}&pages=${pages}`, { signal }), [name, row, pages]);
  const waiting = pending(loaded);
  if (waiting) return html`<h2>Visits</h2>${waiting}`;
  const { rows, total, visits } = loaded.value;
  if (!total) return html`<h2>Visits</h2><${Empty}>No visit.<//>`;
  return html`<h2>Visits</h2>
    <div class="form"><${Field} label="Visits of">${(id) => html`<select id=${id} value=${loaded.value.row} onChange=${(event) => { setRow(event.target.value); setPages(1); }}>
      ${rows.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}</select>`}<//></div>
    <p class="soft" role="status">${visits.length} of ${total} visit${total === 1 ? "" : "s"}</p>
    <ul class="list">${visits.map((one) => html`<li key=${one.number}><a href=${studyVisit(name, one.number)}>User <${Said} text=${one.user_id} /></a>
      <span class="soft"> ${one.rounds} round${one.rounds === 1 ? "" : "s"}, total reward ${number(one.total_reward, 1)}, ${one.left ? `left${one.leave_reason ? ` (${one.leave_reason})` : ""}` : "stayed"}, seed ${one.seed}</span></li>`)}</ul>
    ${visits.length < total && html`<${Action} kind="plain" onDo=${async () => setPages(pages + 1)}>More<//>`}`;
}

const head = (names) => html`<thead><tr>${names.map((name) => html`<th key=${name} scope="col">${name}</th>`)}</tr></thead>`;

const Rows = ({ rows }) => html`<div class="scroll" tabindex="0" role="region" aria-label="Results"><table><caption>Results</caption>
  ${head(["variant", "total reward (95%)", "rounds", "reward a round", "visits"])}
  <tbody>${rows.map((one) => html`<tr key=${one.variant}><th scope="row">${one.variant}</th><td>${number(one.total_reward, 1)}${interval(one.total_reward_ci)}</td>
    <td>${number(one.length, 1)}</td><td>${number(one.mean_reward)}</td><td>${one.visits}</td></tr>`)}</tbody></table></div>`;

function Beside({ one, two }) {
  const loaded = useLoaded((signal) => data(`runs/${encodeURIComponent(one)}/minus/${encodeURIComponent(two)}`, { signal }), [one, two]);
  return pending(loaded) ?? html`
    ${!loaded.value.same_world && html`<${Notice}>These studies are of different worlds, so their users differ: no difference user by user.<//>`}
    ${loaded.value.rows.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Two studies"><table><caption>Total reward (95%)</caption>
      ${head(["variant", one, two, `${one} minus ${two}, user by user`])}
      <tbody>${loaded.value.rows.map((row) => html`<tr key=${row.variant}><th scope="row">${row.variant}</th>
        <td>${number(row.one.total_reward, 1)}${interval(row.one.total_reward_ci)}</td><td>${number(row.two.total_reward, 1)}${interval(row.two.total_reward_ci)}</td>
        <td>${row.difference ? `${number(row.difference.difference, 1)}${interval(row.difference.ci)}` : "–"}</td></tr>`)}</tbody></table></div>`
      : html`<${Empty}>No variant is in both.<//>`}`;
}
