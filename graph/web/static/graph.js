// The graph of a visit as a picture: nodes in layers from the start to the end, all edges, and the node at work.
import { html, useLayoutEffect, useMemo, useRef, useState } from "./lib.js";

const isMark = (name) => name.startsWith("__");

// Nodes in the order of a visit, with those of a round marked; a back edge closes the round.
export function ordered(graph) {
  const names = graph.nodes.map((one) => one.id).filter((one) => !isMark(one));
  const back = graph.edges.find((one) => one.data === "next round");
  const forward = graph.edges.filter((one) => one !== back);
  const order = [];
  let at = forward.find((one) => one.source === "__start__")?.target;
  while (at && at !== "__end__" && !order.includes(at)) {
    order.push(at);
    at = forward.find((one) => one.source === at)?.target;
  }
  for (const name of names) if (!order.includes(name)) order.push(name);
  const from = back ? order.indexOf(back.target) : 0;
  const to = back ? order.indexOf(back.source) : -1;
  return order.map((name, place) => ({ name, loop: place >= from && place <= to }));
}

// Edges that close a circle, as a search in depth from the first node meets them.
function backEdges({ nodes, edges }) {
  const back = new Set();
  const open = new Set();
  const done = new Set();
  const enter = (name) => {
    open.add(name);
    for (const edge of edges.filter((one) => one.source === name)) {
      if (open.has(edge.target)) back.add(edge);
      else if (!done.has(edge.target)) enter(edge.target);
    }
    open.delete(name);
    done.add(name);
  };
  for (const { id } of nodes) if (!done.has(id)) enter(id);
  return back;
}

const LETTER = 8;
const HIGH = 28;
const MARK = 12;
const GAP = 22;
const LANE = 22;
const EDGE = 3;
const ROUND = 8;
const wide = (text) => LETTER * text.length;

// Places of nodes and edges. Each layer holds the nodes whose longest way from the start has its length. Edges between
// neighbouring layers are straight; the others run beside the nodes, those that lead back on the one side, those that
// leave layers out on the other. All places are along the layers and across them until `point` turns them.
export function laidOut(graph, down) {
  const back = backEdges(graph);
  const layer = Object.fromEntries(graph.nodes.map((one) => [one.id, 0]));
  const forward = graph.edges.filter((one) => !back.has(one));
  for (const _ of graph.nodes) for (const { source, target } of forward) layer[target] = Math.max(layer[target], layer[source] + 1);
  const layers = [];
  for (const { id } of graph.nodes) (layers[layer[id]] ??= []).push(id);

  const size = (name) => (isMark(name) ? [MARK, MARK] : [wide(name) + 2 * LETTER, HIGH]);
  const along = (name) => size(name)[down ? 1 : 0];
  const across = (name) => size(name)[down ? 0 : 1];
  const straight = (edge) => !back.has(edge) && layer[edge.target] === layer[edge.source] + 1;
  const pitch = Math.max(...graph.nodes.map((one) => across(one.id))) + GAP;
  const at = {};
  let end = EDGE;
  layers.forEach((names, number) => {
    const long = Math.max(...names.map(along));
    names.forEach((name, place) => { at[name] = [end + long / 2, (place - (names.length - 1) / 2) * pitch]; });
    const labels = forward.filter((one) => straight(one) && layer[one.source] === number && one.data);
    end += long + (number === layers.length - 1 ? EDGE : Math.max(GAP, ...labels.map((one) => (down ? HIGH : wide(one.data) + GAP))));
  });

  const middle = Object.keys(at).map((name) => [at[name][1] - across(name) / 2, at[name][1] + across(name) / 2]);
  let [low, high] = [Math.min(...middle.map(([one]) => one)), Math.max(...middle.map(([, one]) => one))];
  const labelled = (edge) => (edge.data && down ? wide(edge.data) : edge.data ? HIGH / 2 : 0);
  const edges = graph.edges.map((edge) => {
    const [from, to] = [at[edge.source], at[edge.target]];
    const text = edge.data ?? "";
    if (straight(edge)) {
      const points = [[from[0] + along(edge.source) / 2, from[1]], [to[0] - along(edge.target) / 2, to[1]]];
      return { edge, text, points, label: [(points[0][0] + points[1][0]) / 2, (points[0][1] + points[1][1]) / 2] };
    }
    const side = back.has(edge) ? 1 : -1;
    const lane = side > 0 ? high + LANE : low - LANE;
    if (side > 0) high = lane + labelled(edge);
    else low = lane - labelled(edge);
    // An edge of a node to itself leaves and enters it at two places.
    const apart = edge.source === edge.target ? ROUND : 0;
    const [out, into] = [[from[0] + apart, from[1] + (side * across(edge.source)) / 2], [to[0] - apart, to[1] + (side * across(edge.target)) / 2]];
    return { edge, text, points: [out, [out[0], lane], [into[0], lane], into], label: [(out[0] + into[0]) / 2, lane], side };
  });
  low -= EDGE;
  high += EDGE + (down ? Math.max(0, ...forward.filter((one) => straight(one) && one.data).map((one) => wide(one.data) - high)) : 0);
  const point = ([one, two]) => (down ? [two - low, one] : [one, two - low]);
  return {
    width: down ? high - low : end,
    height: down ? end : high - low,
    nodes: graph.nodes.map(({ id }) => ({ name: id, centre: point(at[id]), size: size(id) })),
    edges: edges.map(({ points, label, ...rest }) => ({ ...rest, points: points.map(point), label: point(label) })),
  };
}

// A line through points with round corners.
function line(points) {
  const towards = ([x, y], [toX, toY]) => {
    const share = Math.min(1, ROUND / (Math.hypot(toX - x, toY - y) || 1));
    return `${x + share * (toX - x)} ${y + share * (toY - y)}`;
  };
  const corners = points.slice(1, -1).map((one, place) => `L${towards(one, points[place])}Q${one.join(" ")} ${towards(one, points[place + 2])}`);
  return `M${points[0].join(" ")}${corners.join("")}L${points.at(-1).join(" ")}`;
}

function head(points) {
  const [[fromX, fromY], [x, y]] = points.slice(-2);
  const length = Math.hypot(x - fromX, y - fromY) || 1;
  const [dx, dy] = [(x - fromX) / length, (y - fromY) / length];
  return `${x},${y} ${x - 7 * dx - 4 * dy},${y - 7 * dy + 4 * dx} ${x - 7 * dx + 4 * dy},${y - 7 * dy - 4 * dx}`;
}

const said = (name) => ({ __start__: "start", __end__: "end" })[name] ?? name;

// The picture in words: every edge, with what decides it, and the node at work.
export function inWords(graph, working) {
  const edges = graph.edges.map((one) => `${said(one.source)} to ${said(one.target)}${one.data ? ` (${one.data})` : ""}`);
  return `Graph of the visit: ${edges.join(", ")}. ${working ? `Node at work or next: ${working}.` : "No node is at work."}`;
}

// From left to right where there is room for it, else downwards.
export function Graph({ graph, working }) {
  const place = useRef(null);
  const [room, setRoom] = useState(0);
  useLayoutEffect(() => {
    if (!place.current) return undefined;
    const measure = () => setRoom(place.current.clientWidth);
    measure();
    const watching = new ResizeObserver(measure);
    watching.observe(place.current);
    return () => watching.disconnect();
  }, [Boolean(graph)]);
  const both = useMemo(() => graph && [laidOut(graph, false), laidOut(graph, true)], [graph]);
  if (!graph) return null;
  const down = both[0].width > room;
  const { width, height, nodes, edges } = both[down ? 1 : 0];
  const label = ({ text, label: [x, y], side }) => text && (down
    ? html`<text class="label" x=${x + 6} y=${y + 4}>${text}</text>`
    : html`<text class="label" x=${x} y=${side > 0 ? y + 14 : y - 6} text-anchor="middle">${text}</text>`);
  return html`<div class="graph" ref=${place}>${room > 0 && html`<svg viewBox=${`0 0 ${width} ${height}`} width=${width} height=${height} role="img" aria-label=${inWords(graph, working)}>
    ${edges.map((one, number) => html`<g key=${number} class=${one.edge.conditional ? "edge choice" : "edge"}><path d=${line(one.points)} /><polygon points=${head(one.points)} />${label(one)}</g>`)}
    ${nodes.map(({ name, centre: [x, y], size: [wideness, tallness] }) => html`<g key=${name} class=${name === working ? "node working" : isMark(name) ? "node mark" : "node"}>
      <rect x=${x - wideness / 2} y=${y - tallness / 2} width=${wideness} height=${tallness} rx=${tallness / 2} />
      ${!isMark(name) && html`<text x=${x} y=${y + 5} text-anchor="middle">${name}</text>`}</g>`)}
  </svg>`}</div>`;
}
