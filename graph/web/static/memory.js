// View "Memory": records by kind, space and user; lessons by support; search by meaning; pairs of items; export; deletion.
import { html, useState } from "./lib.js";
import { call, data, post, server } from "./api.js";
import { Action, Block, Empty, Field, Notice, Said, Title, number, pending, useLoaded, when } from "./parts.js";
import { Pairs } from "./pairs.js";

const KINDS = ["lessons", "experiences", "values", "statements"];
const PAGE_SIZE = 50;
const ALL_AT_ONCE = 500;
const NAMESPACES_AT_ONCE = 5000;
const DELETED_AT_ONCE = 8;

// Labels as the server writes them: blanks, dots and percent signs are escaped.
export const unescaped = (label) => (label === "%00" ? "" : label.replaceAll("%2E", ".").replaceAll("%25", "%"));
export const escaped = (label) => label.replaceAll("%", "%25").replaceAll(".", "%2E") || "%00";

// A name as Python's `quote(name, safe="")` writes it.
const quoted = (name) => encodeURIComponent(name).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);

async function namespaces(wanted, signal) {
  const found = [];
  for (;;) {
    const page = (await post("store/namespaces", { ...wanted, limit: NAMESPACES_AT_ONCE, offset: found.length }, { signal })).namespaces;
    found.push(...page);
    if (page.length < NAMESPACES_AT_ONCE) return found;
  }
}

async function listed(signal, shared) {
  if (!server.accounts) return namespaces({ max_depth: 3 }, signal);
  // An account may list its own parts of the memory, and the shared ones if it may share: ask for each by its prefix.
  const [{ account }, worlds] = await Promise.all([data("account", { signal }), data("worlds", { signal })]);
  const found = await Promise.all(
    KINDS.flatMap((kind) => worlds.built.flatMap((world) => [
      [kind, escaped(`people:${world}`), escaped(account)],
      [kind, escaped(`account:${quoted(account)}:${world}`)],
      ...(shared ? [[kind, escaped(world)]] : []),
    ])).map((prefix) => namespaces({ prefix }, signal)),
  );
  return found.flat();
}

// To look at records prolongs no life.
const search = async (wanted, signal) => (await post("store/items/search", { ...wanted, refresh_ttl: false }, { signal })).items;

async function all(prefix) {
  const found = [];
  for (;;) {
    const page = await search({ namespace_prefix: prefix, limit: ALL_AT_ONCE, offset: found.length });
    found.push(...page);
    if (page.length < ALL_AT_ONCE) return found;
  }
}

// Records as lines that `billp memory import` reads.
const lineOf = ({ namespace, key, value, created_at, updated_at }) => JSON.stringify({ namespace, key, value, created_at, updated_at });

// Let the browser save records under a name.
function download(records, name) {
  const address = URL.createObjectURL(new Blob(records.map((one) => `${lineOf(one)}\n`), { type: "application/jsonl" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = `${name.replace(/[^\p{L}\p{N}._-]+/gu, "-")}.jsonl`;
  link.click();
  // The browser has taken the records over by then.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

const remove = ({ namespace, key }) => call("store/items", { method: "DELETE", body: { namespace, key } });

async function removeAll(found) {
  for (let start = 0; start < found.length; start += DELETED_AT_ONCE) {
    await Promise.all(found.slice(start, start + DELETED_AT_ONCE).map(remove));
  }
}

export function MemoryView() {
  const [shared, setShared] = useState(false);
  const spaces = useLoaded((signal) => listed(signal, shared), [shared]);
  const [kind, setKind] = useState("");
  const [space, setSpace] = useState("");
  const [user, setUser] = useState("");
  const common = server.accounts && html`<label class="row"><input type="checkbox" checked=${shared} onChange=${(event) => setShared(event.target.checked)} /> Shared spaces too, for accounts that may share</label>`;
  if (!spaces.value || spaces.error) return html`<${Title}>Memory<//>${common}${pending(spaces)}`;
  const names = spaces.value;
  const options = (place, match) => [...new Set(names.filter(match).map((one) => one[place]).filter(Boolean))].sort();
  const kinds = options(0, () => true);
  const at = kinds.includes(kind) ? kind : kinds.includes("lessons") ? "lessons" : kinds[0];
  // Spaces that all visits share come first.
  const ofKind = options(1, (one) => one[0] === at).sort((one, two) => one.includes(":") - two.includes(":"));
  const inSpace = ofKind.includes(space) ? space : ofKind[0];
  const users = options(2, (one) => one[0] === at && one[1] === inSpace);
  const who = users.includes(user) ? user : "";
  const select = (label, value, change, found, any) => html`<${Field} label=${label}>${(id) => html`<select id=${id} value=${value} onChange=${(event) => change(event.target.value)}>
    ${any && html`<option value="">all</option>`}${found.map((one) => html`<option key=${one} value=${one}>${unescaped(one)}</option>`)}</select>`}<//>`;
  if (!at) return html`<${Title}>Memory<//>${common}<${Empty}>No record yet: visits write them.<//>`;
  // An account reaches its own records by their whole namespace.
  const sole = server.accounts && inSpace.startsWith("people:") ? users[0] : "";
  const prefix = [at, inSpace, ...(who || sole ? [who || sole] : [])];
  return html`<${Title}>Memory<//>${common}
    <div class="form">${select("Kind", at, setKind, kinds)}${select("Space", inSpace, setSpace, ofKind)}${select("User", who, setUser, users, true)}</div>
    ${who && html`<${OfUser} key=${who} user=${who} namespaces=${names.filter((one) => one[2] === who)} onDone=${spaces.reload} />`}
    <${Records} key=${prefix.join(" ")} kind=${at} prefix=${prefix} onChange=${spaces.reload} />`;
}

function Records({ kind, prefix, onChange }) {
  const [query, setQuery] = useState("");
  const [asked, setAsked] = useState("");
  const [pages, setPages] = useState(1);
  const merged = kind === "lessons" && !asked;
  const loaded = useLoaded(async (signal) => {
    if (merged) return { merged, lessons: await post("app/api/lessons", { prefix }, { signal }) };
    return { merged, items: await search({ namespace_prefix: prefix, limit: PAGE_SIZE * pages, ...(asked ? { query: asked } : {}) }, signal) };
  }, [prefix.join(" "), asked, pages]);
  const deleted = async (found) => {
    await removeAll(found);
    loaded.reload();
    onChange();
  };
  const value = loaded.value?.merged === merged ? loaded.value : undefined;
  return html`<form class="row end" role="search" onSubmit=${(event) => { event.preventDefault(); setAsked(query.trim()); setPages(1); }}>
      <div class="grow"><${Field} label="Search by meaning">${(id) => html`<input id=${id} type="search" dir="auto" maxlength="10000" value=${query} onInput=${(event) => setQuery(event.target.value)} />`}<//></div>
      <button class="plain">Search</button>
    </form>
    <div class="row"><${Export} name=${[...prefix.map(unescaped), ...(asked ? ["found"] : [])].join("-")} label="Export what is shown" records=${() => (asked ? value?.items ?? [] : all(prefix))} /></div>
    ${kind === "experiences" && html`<${Pairs} prefix=${prefix} />`}
    ${pending({ ...loaded, value }) ?? (merged
      ? html`<${LessonList} lessons=${value.lessons} onDelete=${deleted} />`
      : html`<${RecordList} items=${value.items} onDelete=${deleted} />
          ${value.items.length >= PAGE_SIZE * pages && html`<${Action} kind="plain" onDo=${async () => setPages(pages + 1)}>More<//>`}`)}`;
}

function LessonList({ lessons, onDelete }) {
  if (!lessons.length) return html`<${Empty}>No lesson here.<//>`;
  return html`<p class="soft" role="status">${lessons.length} different lesson${lessons.length === 1 ? "" : "s"}, those of the most visits first</p>
    <ul class="list">${lessons.map((one) => html`<li key=${`${one.space} ${one.text}`}><div class="row">
      <span class="grow"><${Said} text=${one.text} /> <span class="soft">– ${one.support} visit${one.support === 1 ? "" : "s"} of ${number(one.length, 1)} rounds</span></span>
      <${Delete} what="lesson" onDo=${() => onDelete(one.records)} /></div>
      ${one.replaced.length > 0 && html`<details><summary>Replaced ${one.replaced.length}</summary><ul>${one.replaced.map((text) => html`<li key=${text}><${Said} text=${text} /></li>`)}</ul></details>`}
    </li>`)}</ul>`;
}

// What a record says, apart from its namespace and the situation by which it is found.
function summary(value) {
  const rest = Object.entries(value).filter(([name, one]) => !["kind", "visit", "user_id", "situation", "text", "title", "item_id", "item_ids", "recent", "number"].includes(name) && one !== null && one !== "" && !(Array.isArray(one) && !one.length));
  return rest.map(([name, one]) => `${name.replaceAll("_", " ")} ${typeof one === "number" ? String(Math.round(one * 100) / 100).replace("-", "−") : Array.isArray(one) ? one.join(", ") : one}`).join("; ");
}

function RecordList({ items, onDelete }) {
  if (!items.length) return html`<${Empty}>No record found.<//>`;
  return html`<ul class="list">${items.map((one) => html`<li key=${`${one.namespace} ${one.key}`}><div class="row">
      <span class="grow">${(one.value.title || one.value.text) && html`<strong><${Said} text=${[one.value.title, one.value.text].filter(Boolean).join(": ")} /></strong> `}
        <bdi>${summary(one.value)}</bdi> <span class="soft">user <${Said} text=${unescaped(one.namespace[2] ?? "")} />, ${when(one.updated_at)}${one.score !== null && one.score !== undefined ? `, similarity ${number(one.score)}` : ""}</span></span>
      <${Delete} what="record" onDo=${() => onDelete([one])} /></div>
      ${one.value.situation && html`<details><summary>Situation</summary><${Block} name="Situation" text=${one.value.situation} /></details>`}
    </li>`)}</ul>`;
}

// Deletion asks first.
function Delete({ what, onDo }) {
  const [sure, setSure] = useState(false);
  if (!sure) return html`<button type="button" class="plain" onClick=${() => setSure(true)}>Delete</button>`;
  return html`<span class="row"><${Action} kind="danger" onDo=${onDo}>Delete this ${what}<//><button type="button" class="plain" onClick=${() => setSure(false)}>Keep</button></span>`;
}

function Export({ name, label, records }) {
  const [count, setCount] = useState(null);
  const save = async () => {
    const found = await records();
    download(found, name);
    setCount(found.length);
  };
  return html`<${Action} kind="plain" onDo=${save}>${label}<//>${count !== null && html`<span role="status" class="soft">${count} record${count === 1 ? "" : "s"} exported</span>`}`;
}

// All records of a user: exported, or deleted after a question.
function OfUser({ user, namespaces, onDone }) {
  const [found, setFound] = useState(null);
  const [left, setLeft] = useState(null);
  const look = async () => (await Promise.all(namespaces.map((one) => all(one)))).flat();
  const forget = async () => {
    await removeAll(await look());
    setLeft((await look()).length);
    setFound(null);
  };
  return html`<div class="row">
    <${Export} name=${unescaped(user)} label=${`Export the user ${unescaped(user)}`} records=${look} />
    ${!found && left === null && html`<${Action} kind="plain" onDo=${async () => setFound(await look())}>Forget the user ${unescaped(user)}<//>`}
    ${found && html`<span>${found.length} records of all kinds and spaces will be deleted.</span>
      <${Action} kind="danger" onDo=${forget}>Delete them all<//><button type="button" class="plain" onClick=${() => setFound(null)}>Keep them</button>`}
    ${left !== null && html`<${Notice}>Records of this user that are left: ${left}. <button type="button" class="plain" onClick=${onDone}>Close</button><//>`}
  </div>`;
}
