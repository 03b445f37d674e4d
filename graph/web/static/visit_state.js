// A visit by its thread: state, the node at work, and the rounds' details, live while a run goes on.
import { useEffect, useRef, useState } from "./lib.js";
import { back, call, Fault, graphOf, isAbort, post, server, stream, threadPath } from "./api.js";

export const PAGE_SIZE = 20;
const MOST_PAGES = 200;
const STATE_EVERY_MS = 300;
const BUSY_AGAIN_MS = 700;
const MODES = ["updates", "custom"];
// Nodes that play the user.
export const USERS = ["user", "llm_user", "person"];
export const CONTEXT = "billp_page_context";

// Start a visit on a thread of its own, and return the thread. Its settings are kept with the thread, because a resume
// without settings would get the defaults.
export async function startVisit(assistant, input, context, options = {}) {
  const { world, user_id } = input;
  const thread = await post("threads", { metadata: { [CONTEXT]: context, ...(world && { world }), ...(user_id && { user_id }) } });
  await startRun(thread, { assistant_id: assistant, input, ...options });
  return thread;
}

// Start a run in the background, so that it goes on without this page, and watch it by its stream.
export async function startRun(thread, given) {
  const context = thread.metadata?.[CONTEXT] ?? {};
  const body = { stream_mode: MODES, stream_resumable: true, multitask_strategy: "reject", ...given };
  if (Object.keys(context).length) body.context = context;
  return post(`${threadPath(thread.thread_id)}/runs`, body);
}

export const stopRuns = async (thread) => {
  const runs = await call(`${threadPath(thread)}/runs?limit=10`);
  for (const run of runs.filter((one) => ["pending", "running"].includes(one.status))) {
    await post(`${threadPath(thread)}/runs/${run.run_id}/cancel`, undefined);
  }
};

// Why a visit cannot be stopped by the risk that the user leaves; empty if it can.
export function riskless(graph, thread, values) {
  const names = graph.nodes.map((one) => one.id);
  if (!names.some((one) => USERS.includes(one))) return "This graph has no node of the user that the page knows.";
  const settings = thread.metadata?.[CONTEXT] ?? {};
  if (settings.outlook === false) return "The outlook is switched off in the settings of this visit, so no risk is estimated.";
  if (settings.choices === "free") return "The Actor chooses freely in this visit, without a shortlist that has risks.";
  const known = [...(values.shortlist ?? []), ...(values.steps ?? [])].some((one) => typeof one.risk === "number");
  return known || names.includes("outlook") ? "" : "This variant knows no risk: it has no outlook.";
}

// The risk that the user leaves after the item that they get next; null if the shortlist does not tell it.
const shownRisk = ({ shortlist = [], proposal }) => shortlist.find((one) => one.item_id === proposal?.item_id)?.risk ?? null;

// Run a visit round by round until the item before the user has at least a risk. `latest` is the checkpoint before.
// Return the risk, null for a visit that ended or stopped elsewhere, and the number of shown items of unknown risk.
export async function runToRisk(thread, first, { user, risk, latest, signal, onStart }) {
  const path = threadPath(thread.thread_id);
  const { assistant_id } = first;
  let unknown = 0;
  let given = first;
  for (;;) {
    signal.throwIfAborted();
    const run = await startRun(thread, { ...given, interrupt_before: [user] });
    onStart(given);
    await call(`${path}/runs/${run.run_id}/join`, { signal });
    const { next, values, checkpoint } = await call(`${path}/state`, { signal });
    // A cancelled run may have written nothing.
    if (next?.[0] !== user || checkpoint.checkpoint_id === latest) return { risk: null, unknown };
    const found = shownRisk(values);
    if (found !== null && found >= risk) return { risk: found, unknown };
    if (found === null) unknown += 1;
    latest = checkpoint.checkpoint_id;
    given = { assistant_id, input: null };
  }
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// What the details of a round are, of the state just before the user answers.
export const detailsOf = (values) => ({
  shortlist: values.shortlist ?? [],
  chosen: values.proposal?.item_id,
  experiences: values.experiences ?? [],
  exchange: values.exchange ?? {},
});

// The node that follows; of two, the one that the visit's end or the next round decides.
export function following(graph, node, over) {
  const edges = graph.edges.filter((one) => one.source === node);
  const [edge] = edges.length > 1 ? edges.filter((one) => (one.data === "visit over") === over) : edges;
  return edge && edge.target !== "__end__" ? edge.target : null;
}

const isOver = (values) => {
  const steps = values.steps ?? [];
  return Boolean(values.left || steps.at(-1)?.left || steps.length >= (values.identity?.max_steps ?? Infinity));
};

// Rounds that have not changed stay the same objects, so that their cards are not drawn again.
const kept = (before = [], after = []) =>
  after.map((step, place) => (JSON.stringify(step) === JSON.stringify(before[place]) ? before[place] : step));

function merge(values, update) {
  const merged = { ...values };
  for (const [name, value] of Object.entries(update ?? {})) {
    if (name === "steps") {
      const steps = value?.type === "__overwrite__" ? [] : [...(values.steps ?? [])];
      for (const step of value?.value ?? value ?? []) steps[step.index] = step;
      merged.steps = steps.filter(Boolean);
    } else if (name !== "records") {
      merged[name] = value;
    }
  }
  return merged;
}

export function useVisit(id) {
  const [visit, setVisit] = useState({ loading: true });
  const [turn, setTurn] = useState(0);
  const details = useRef(new Map());
  // The checkpoint that was the latest when a run was started.
  const left = useRef(null);
  useEffect(() => {
    if (!id) return undefined;
    const leaving = new AbortController();
    const { signal } = leaving;
    const show = (changes) => signal.aborted || setVisit((before) => ({ ...before, ...changes }));

    let loadedAt = 0;
    let loading = null;
    const loadState = () => {
      loading ??= (async () => {
        await pause(Math.max(0, loadedAt + STATE_EVERY_MS - Date.now()));
        const state = await call(`${threadPath(id)}/state`, { signal });
        loadedAt = Date.now();
        loading = null;
        remember(state);
        setVisit((before) => {
          // A fork that has written nothing yet: the server still has the state of the branch before.
          if (before.busy && left.current && state.checkpoint?.checkpoint_id === left.current) return before;
          // The stream may be ahead of this state by a round.
          const ahead = before.busy && (before.values?.steps?.length ?? 0) > (state.values?.steps?.length ?? 0);
          const steps = ahead ? before.values.steps : kept(before.values?.steps, state.values?.steps);
          const values = { ...state.values, steps };
          return signal.aborted ? before : { ...before, state, values };
        });
        return state;
      })().catch((error) => {
        loading = null;
        throw error;
      });
      return loading;
    };

    // Earlier in a round, the state still has the shortlist of the round before.
    const remember = (state) => {
      const values = state.values ?? {};
      if (left.current && state.checkpoint?.checkpoint_id === left.current) return;
      if (USERS.includes(state.next?.[0]) && values.proposal && values.shortlist) details.current.set((values.steps ?? []).length, detailsOf(values));
    };

    const watch = async (run, graph) => {
      // Without modes: of several, the server would take the last one alone.
      for await (const { event, data } of stream(`${threadPath(id)}/runs/${run}/stream`, { signal })) {
        if (event === "error") show({ fault: plain(data) });
        if (event !== "updates") continue;
        for (const [node, update] of Object.entries(data)) {
          if (node === "__interrupt__") continue;
          setVisit((before) => {
            const values = merge(before.values ?? {}, update);
            return signal.aborted ? before : { ...before, values, working: following(graph, node, isOver(values)) };
          });
        }
        loadState().catch(() => {});
      }
    };

    const follow = async () => {
      show({ loading: true, error: null });
      let thread = await call(threadPath(id), { signal });
      const graph = thread.metadata?.graph_id ? await graphOf(thread.metadata.graph_id) : null;
      for (;;) {
        const busy = thread.status === "busy";
        show({ thread, graph, busy, loading: false, error: null, ...(busy ? { fault: "" } : { working: null }) });
        const state = await loadState();
        if (!busy || !graph) {
          show({ busy: false, working: null, fault: faultOf(state, thread) });
          return;
        }
        show({ working: state.next?.[0] ?? null });
        const runs = await call(`${threadPath(id)}/runs?limit=10`, { signal });
        const run = runs.find((one) => one.status === "running") ?? runs.find((one) => one.status === "pending");
        if (run) await watch(run.run_id, graph);
        else await pause(BUSY_AGAIN_MS);
        thread = await call(threadPath(id), { signal });
      }
    };

    const live = async () => {
      while (!signal.aborted) {
        try {
          await follow();
          return;
        } catch (error) {
          if (isAbort(error) || signal.aborted) return;
          show({ error, loading: false });
          if (!server.away) return;
          await back();
        }
      }
    };
    live();
    return () => leaving.abort();
  }, [id, turn]);

  // Details of a round that was not watched: of the checkpoint just before its user answered. The history has all
  // branches, the latest checkpoint first: those of the present branch follow each other by their parents.
  const detailsFor = async (index) => {
    let before;
    let wanted;
    for (let page = 0; page < MOST_PAGES && !details.current.has(index); page += 1) {
      const states = await history(id, { before });
      for (const state of states) {
        wanted ??= state.checkpoint.checkpoint_id;
        if (state.checkpoint.checkpoint_id !== wanted) continue;
        // The first checkpoint has no parent.
        wanted = state.parent_checkpoint?.checkpoint_id ?? "";
        const steps = (state.values?.steps ?? []).length;
        if (state.values?.proposal && state.values?.shortlist && !details.current.has(steps)) {
          details.current.set(steps, detailsOf(state.values));
        }
      }
      if (states.length < PAGE_SIZE) break;
      before = states.at(-1).checkpoint;
    }
    if (!details.current.has(index)) throw new Fault("The server has no checkpoint of this round.");
    return details.current.get(index);
  };
  const reload = () => setTurn((count) => count + 1);
  // A run was started: until the server says more, the visit is under way, for a fork from the values of its checkpoint.
  const started = (from) => {
    left.current = from ? visit.state?.checkpoint?.checkpoint_id : null;
    if (from) details.current.clear();
    setVisit((before) => ({ ...before, busy: true, fault: "", values: from ?? before.values }));
    reload();
  };
  return { ...visit, reload, started, detailsFor };
}

export const history = (id, { before, limit = PAGE_SIZE } = {}) =>
  post(`${threadPath(id)}/history`, { limit, ...(before ? { before: { configurable: before } } : {}) });

// The fault of the last run, without the library's address below it.
function faultOf(state, thread) {
  const said = state.tasks?.find((task) => task.error)?.error ?? (thread.status === "error" ? thread.error : "");
  return said ? plain(said) : "";
}

function plain(said) {
  const text = typeof said === "string" ? said : said.message ?? JSON.stringify(said);
  // The state holds the error as Python writes it: NAME('words').
  const [, words = text] = /^\w+\((['"])(.*)\1\)$/s.exec(text)?.slice(1) ?? [];
  return words.replace(/\s*For further information visit .*/s, "").trim();
}
