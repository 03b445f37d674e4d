// A form from a JSON schema, as the server gives it for the input and the settings of a graph.
import { html } from "./lib.js";
import { Field } from "./parts.js";

const kindOf = (schema) => {
  if (schema.enum) return "choice";
  const types = schema.anyOf ? schema.anyOf.map((one) => one.type) : [schema.type];
  if (types.includes("boolean")) return "switch";
  if (types.includes("integer") || types.includes("number")) return "number";
  if (types.includes("array")) return "lines";
  return schema.langgraph_type === "prompt" ? "prompt" : "text";
};

const bounds = (schema) => schema.anyOf?.find((one) => one.type !== "null") ?? schema;

// `user_id` reads "User id".
export const labelOf = (name) => {
  const words = name.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
};

const shownDefault = (schema) => {
  const { default: value } = schema;
  if (value === "" || value === null || value === undefined || kindOf(schema) === "prompt") return "";
  return Array.isArray(value) ? value.join(", ") : String(value);
};

// One control. `value` is undefined while the default stands, and `set(undefined)` brings the default back.
export function Control({ name, schema, value, set, label, list }) {
  const kind = kindOf(schema);
  const help = schema.description;
  const given = value ?? schema.default;
  if (kind === "switch") {
    return html`<div class="field check">
      <input type="checkbox" id=${`set-${name}`} checked=${Boolean(given)} aria-describedby=${help && `set-${name}-help`}
        onChange=${(event) => set(event.target.checked === schema.default ? undefined : event.target.checked)} />
      <label for=${`set-${name}`}>${label ?? labelOf(name)}</label>
      ${help && html`<p class="help" id=${`set-${name}-help`}>${help}</p>`}
    </div>`;
  }
  return html`<${Field} label=${label ?? labelOf(name)} help=${help} wide=${kind === "prompt"}>
    ${(id, described) => {
      const common = { id, "aria-describedby": described };
      if (kind === "choice") {
        return html`<select ...${common} value=${given} onChange=${(event) => set(event.target.value === schema.default ? undefined : event.target.value)}>
          ${schema.enum.map((one) => html`<option key=${one} value=${one} selected=${one === given}>${one}</option>`)}
        </select>`;
      }
      if (kind === "number") {
        const { minimum, maximum, type } = bounds(schema);
        return html`<input ...${common} type="number" min=${minimum} max=${maximum} step=${type === "integer" ? 1 : "any"}
          value=${value ?? ""} placeholder=${shownDefault(schema)}
          onInput=${(event) => set(event.target.value === "" || !Number.isFinite(event.target.valueAsNumber) ? undefined : event.target.valueAsNumber)} />`;
      }
      if (kind === "prompt") {
        return html`<textarea ...${common} rows="10" maxlength=${schema.maxLength} value=${given} dir="auto"
          onInput=${(event) => set(event.target.value === schema.default ? undefined : event.target.value)}></textarea>`;
      }
      if (kind === "lines") {
        return html`<textarea ...${common} rows="3" dir="auto" value=${(value ?? []).join("\n")} placeholder="one a line"
          onInput=${(event) => set(event.target.value ? event.target.value.split("\n") : undefined)}></textarea>`;
      }
      return html`<input ...${common} type="text" maxlength=${schema.maxLength} dir="auto" list=${list} value=${value ?? ""}
        placeholder=${shownDefault(schema)} onInput=${(event) => set(event.target.value || undefined)} />`;
    }}
  <//>`;
}

// Settings in groups: the model first, then each role's, then the others. Roles that the graph lacks are left out.
export function grouped(schema, nodes) {
  const groups = new Map([["Model", []]]);
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    const roles = field.langgraph_nodes;
    if (roles && !roles.some((role) => nodes.includes(role))) continue;
    const group = name === "model" || name === "temperature" ? "Model" : roles ? labelOf(roles[0]) : "Other settings";
    groups.set(group, [...(groups.get(group) ?? []), [name, field]]);
  }
  const other = groups.get("Other settings");
  groups.delete("Other settings");
  if (other) groups.set("Other settings", other);
  return [...groups];
}

export function SettingsForm({ schema, nodes, values, set }) {
  const change = (name) => (value) => {
    const { [name]: _, ...rest } = values;
    set(value === undefined ? rest : { ...rest, [name]: value });
  };
  return grouped(schema, nodes).map(([group, fields]) => {
    const changed = fields.filter(([name]) => name in values).length;
    const inner = html`<div class="form">${fields.map(([name, field]) => html`<${Control} key=${name} name=${name} schema=${field} value=${values[name]} set=${change(name)} />`)}</div>`;
    if (group === "Model") return html`<fieldset key=${group}><legend>Model</legend>${inner}</fieldset>`;
    return html`<details key=${group}><summary>${group}${changed ? `, ${changed} changed` : ""}</summary>${inner}</details>`;
  });
}

// The lines of a text field without blank ones, for the input of a visit.
export const trimmed = (input) =>
  Object.fromEntries(
    Object.entries(input).map(([name, value]) => [name, Array.isArray(value) ? value.map((one) => one.trim()).filter(Boolean) : value]),
  );
