// Pairs of an item in the experiences of a memory: with which other items it was shown, and how these rounds ended.
import { html, useState } from "./lib.js";
import { data } from "./api.js";
import { Empty, Field, Said, number, pending, useLoaded } from "./parts.js";

export function Pairs({ prefix }) {
  const [title, setTitle] = useState("");
  const [asked, setAsked] = useState(null);
  const submit = (event) => {
    event.preventDefault();
    setAsked(title.trim() ? { title: title.trim() } : null);
  };
  return html`<details><summary>Pairs of an item</summary>
    <p class="soft">With which other items it was shown within four rounds. The user stayed, or the visit ended: an end counts for each pair that met in its round.</p>
    <form class="row end" onSubmit=${submit}>
      <div class="grow"><${Field} label="Title, or a part of it">${(id) => html`<input id=${id} type="search" dir="auto" maxlength="1000" value=${title} onInput=${(event) => setTitle(event.target.value)} />`}<//></div>
      <button class="plain">Show pairs</button>
    </form>
    ${asked && html`<${Found} prefix=${prefix} asked=${asked} choose=${(one) => setAsked({ item_id: one.item_id })} />`}
  </details>`;
}

function Found({ prefix, asked, choose }) {
  const loaded = useLoaded((signal) => data("pairs", { method: "POST", body: { prefix, ...asked }, signal }), [prefix.join(" "), JSON.stringify(asked)]);
  const waiting = pending(loaded);
  if (waiting) return waiting;
  const { items, pairs, more } = loaded.value;
  if (!items.length) return html`<${Empty}>No experience here is of such an item.<//>`;
  if (!pairs) return html`<p role="status">Several items have such a title. Choose one:</p><ul class="list">${items.map((one) => html`<li key=${one.item_id}>
    <button type="button" class="plain" onClick=${() => choose(one)}><${Said} text=${one.title} /></button></li>`)}</ul>`;
  if (!pairs.length) return html`<${Empty}><${Said} text=${items[0].title} /> was shown with no other item.<//>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Pairs"><table><caption>Pairs of <${Said} text=${items[0].title} /></caption>
      <thead><tr><th scope="col">item</th><th scope="col">stayed</th><th scope="col">ended</th><th scope="col">distance</th></tr></thead>
      <tbody>${pairs.map((one) => html`<tr key=${one.item_id}><th scope="row"><${Said} text=${one.title} /></th>
        <td>${one.stayed}</td><td>${one.ended}</td><td>${number(one.distance)}</td></tr>`)}</tbody></table></div>
    ${more > 0 && html`<p class="soft">${more} more pairs, of fewer ends and rounds, are not shown.</p>`}`;
}
