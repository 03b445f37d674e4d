// The rounds of a visit: cards, and the line of reward and risk.
import { Component, html, useState } from "./lib.js";
import { Block, Categories, Notice, count, number, percent, Said } from "./parts.js";

const WIDE = 640;
const HIGH = 190;
const LEFT = 26;
const RIGHT = 64;
const TOP = 14;
const BOTTOM = 24;

// Reward (1 to 5, left scale) and risk (0 to 1, right scale) over rounds, in a picture of fixed size.
export function Chart({ steps, most }) {
  const rounds = Math.max(most ?? 0, steps.length, 2);
  const x = (index) => LEFT + ((WIDE - LEFT - RIGHT) * index) / (rounds - 1);
  const y = (share) => TOP + (HIGH - TOP - BOTTOM) * (1 - Math.min(Math.max(share, 0), 1));
  const rewards = steps.map((step) => [x(step.index), y((step.reward - 1) / 4)]);
  const risks = steps.filter((step) => step.risk !== null && step.risk !== undefined).map((step) => [x(step.index), y(step.risk)]);
  const line = (points) => points.map((point) => point.map((one) => one.toFixed(1)).join(",")).join(" ");
  const dots = (points, name) => points.length < 60 && points.map(([left, top], place) => html`<circle key=${place} class=${name} cx=${left.toFixed(1)} cy=${top.toFixed(1)} r="3" />`);
  const last = steps.at(-1);
  return html`<figure>
    <svg class="chart" viewBox=${`0 0 ${WIDE} ${HIGH}`} role="img"
      aria-label=${last ? `Reward and risk of ${steps.length} rounds; the last reward is ${number(last.reward)}, its risk ${percent(last.risk)}.` : "Reward and risk: no round yet."}>
      ${[0, 0.25, 0.5, 0.75, 1].map((share) => html`<line key=${share} class="grid" x1=${LEFT} x2=${WIDE - RIGHT} y1=${y(share)} y2=${y(share)} />`)}
      ${[1, 3, 5].map((one) => html`<text key=${one} x="4" y=${y((one - 1) / 4) + 4}>${one}</text>`)}
      ${[0, 1].map((one) => html`<text key=${one} x=${WIDE - RIGHT + 6} y=${y(one) + 4}>${one ? "100%" : "0%"}</text>`)}
      <text x=${LEFT} y=${HIGH - 4}>round 1</text>
      <text x=${WIDE - RIGHT} y=${HIGH - 4} text-anchor="end">${rounds}</text>
      <polyline class="reward-line" points=${line(rewards)} />
      <polyline class="risk-line" points=${line(risks)} />
      ${dots(rewards, "reward-dot")}
      ${dots(risks, "risk-dot")}
    </svg>
    <figcaption>Reward from 1 to 5 (unbroken line)${risks.length || !steps.length ? ", risk that the user leaves (broken line)" : "; no risk was estimated"}.</figcaption>
  </figure>`;
}

const fact = (name, value) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`;

// A card changes only when its round does, so that a long visit stays smooth.
export class Round extends Component {
  shouldComponentUpdate(next) {
    return next.step !== this.props.step || next.detailsFor === undefined;
  }

  render({ step, detailsFor }) {
    const known = step.known === null && step.ended === null ? "–" : `${step.known ?? 0} / ${step.ended ?? 0}`;
    return html`<li class=${step.left ? "card left" : "card"}>
      <div class="top"><h3>${step.index + 1}. <${Said} text=${step.title} /></h3>
        <span class="reward">${step.skipped ? "skipped" : `${number(step.reward)} of 5`}</span></div>
      <${Categories} names=${step.genres} />
      ${step.plan && html`<p class="plan"><span class="soft">Plan:</span> <${Said} text=${step.plan} /></p>`}
      ${step.reason && html`<p class="plan"><span class="soft">User:</span> <${Said} text=${step.reason} /></p>`}
      <dl class="numbers">
        ${fact("predicted", number(step.predicted))} ${fact("distance", number(step.distance))} ${fact("risk", percent(step.risk))}
        ${fact("known / ended", known)} ${fact("value before", number(step.value))} ${fact("value after", number(step.next_value))}
        ${fact("advantage", number(step.advantage))} ${fact("tokens", count((step.usage?.prompt_tokens ?? 0) + (step.usage?.completion_tokens ?? 0)))}
      </dl>
      ${step.left && html`<p><strong>The user left after this round.</strong></p>`}
      ${detailsFor && html`<${Details} index=${step.index} load=${detailsFor} />`}
    </li>`;
  }
}

function Details({ index, load }) {
  const [state, setState] = useState({});
  const toggled = async (event) => {
    if (!event.target.open || state.value || event.target !== event.currentTarget) return;
    setState({ loading: true });
    try {
      setState({ value: await load(index) });
    } catch (error) {
      setState({ fault: error.message });
    }
  };
  return html`<details onToggle=${toggled}><summary>Shortlist, recalled rounds, prompts</summary>
    ${state.loading && html`<p class="soft">Loading …</p>`}
    ${state.fault && html`<${Notice} kind="error">${state.fault}<//>`}
    ${state.value && html`<${RoundDetails} ...${state.value} />`}
  </details>`;
}

export function RoundDetails({ shortlist, chosen, experiences, exchange }) {
  return html`<${Shortlist} items=${shortlist} chosen=${chosen} />
    <${Experiences} items=${experiences} />
    ${Object.entries(exchange).map(([role, said]) => html`<details key=${role}><summary>${role}: prompt and reply (${said.outcome || "no outcome"})</summary>
      ${said.fault && html`<${Notice} kind="error">${said.fault}<//>`}
      <h3>Reply</h3><${Block} name=${`Reply of ${role}`} text=${said.reply} /><h3>Prompt</h3><${Block} name=${`Prompt of ${role}`} text=${said.prompt} /></details>`)}`;
}

export function Shortlist({ items, chosen }) {
  if (!items.length) return html`<p class="soft">No shortlist in this round.</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Shortlist"><table>
    <caption>Shortlist</caption>
    <thead><tr><th scope="col">item</th><th scope="col" class="text">categories</th><th scope="col">predicted</th><th scope="col">distance</th><th scope="col">risk</th><th scope="col">known / ended</th></tr></thead>
    <tbody>${items.map((one) => html`<tr key=${one.item_id} class=${one.item_id === chosen ? "chosen" : ""}>
      <th scope="row"><${Said} text=${one.title} />${one.item_id === chosen ? " (chosen)" : ""}</th>
      <td class="text">${one.genres.join(", ")}</td><td>${number(one.predicted)}</td><td>${number(one.distance)}</td>
      <td>${percent(one.risk)}</td><td>${one.known ?? "–"} / ${one.ended ?? "–"}</td></tr>`)}</tbody>
  </table></div>`;
}

function Experiences({ items }) {
  if (!items.length) return html`<p class="soft">No experience was recalled for this round.</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Recalled experiences"><table>
    <caption>Recalled experiences</caption>
    <thead><tr><th scope="col">item</th><th scope="col">similarity</th><th scope="col">advantage</th><th scope="col">distance</th></tr></thead>
    <tbody>${items.map((one, place) => html`<tr key=${place}><th scope="row"><${Said} text=${one.title} /></th>
      <td>${number(one.similarity)}</td><td>${number(one.advantage)}</td><td>${number(one.distance)}</td></tr>`)}</tbody>
  </table></div>`;
}

export function Lessons({ items }) {
  if (!items?.length) return html`<p class="soft">No lesson was recalled.</p>`;
  return html`<ul>${items.map((one, place) => html`<li key=${place}><${Said} text=${one.text} />
    <span class="soft"> – taught by ${one.support} visit${one.support === 1 ? "" : "s"} of ${number(one.length, 1)} rounds</span></li>`)}</ul>`;
}
