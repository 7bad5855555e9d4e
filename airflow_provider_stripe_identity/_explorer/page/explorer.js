// The explorer: a form, the same request as code, and Stripe's answer through Airflow's gateway.
import { copy, followTheme, get, problemOf } from "./airflow.js";
import { connection, form, keep, link, query, restore, setCursor, showCreated, showInZone } from "./form.js";
import { showCode } from "./highlight.js";
import { row, tree } from "./results.js";

const SESSIONS = "v1/identity/verification_sessions";
const NOTES = {
  curl: "AIRFLOW_TOKEN is a token of Airflow, from POST <Airflow>/auth/token. Airflow adds the Stripe key.",
  hook: "In a task, with this connection.",
  dag: "Exports every page of the list.",
  python: "pip install stripe; AIRFLOW_TOKEN is a token of Airflow, from POST <Airflow>/auth/token.",
  typescript: "npm install stripe; AIRFLOW_TOKEN is a token of Airflow, from POST <Airflow>/auth/token.",
};
const byId = (id) => document.getElementById(id);
const tabs = [...byId("tabs").children];
const base = () => `connections/${encodeURIComponent(connection())}`;

let snippets = null;
let kind = "curl";
let shown = null;
let pending = null;

// The same request as code

let typing;
let asking;

async function showSnippets() {
  asking?.abort();
  if (!connection()) return showKind(kind);
  asking = new AbortController();
  const asked = query();
  asked.append("base_url", new URL(".", location.href).href);
  try {
    const answer = await get(`${base()}/snippets?${asked}`, asking.signal);
    snippets = answer.status === 200 ? answer.body : null;
    byId("code-note").dataset.problem = snippets ? "" : problemOf(answer).message;
  } catch (error) {
    if (error.name === "AbortError") return;
    snippets = null;
    byId("code-note").dataset.problem = "Airflow cannot be reached.";
  }
  showKind(kind);
}

function showKind(wanted) {
  kind = wanted;
  for (const tab of tabs) {
    const selected = tab.dataset.kind === kind;
    tab.setAttribute("aria-selected", selected);
    tab.tabIndex = selected ? 0 : -1;
  }
  if (!connection()) byId("code-note").dataset.problem = "Choose a connection.";
  showCode(snippets?.[kind] ?? "", byId("code"));
  byId("code").dataset.kind = snippets ? kind : "";
  byId("copy").disabled = !snippets;
  byId("code-note").textContent = byId("code-note").dataset.problem || NOTES[kind];
}

byId("tabs").addEventListener("click", ({ target }) => target.dataset.kind && showKind(target.dataset.kind));
byId("tabs").addEventListener("keydown", ({ key }) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
  if (!step) return;
  const next = tabs[(tabs.findIndex((tab) => tab.dataset.kind === kind) + step + tabs.length) % tabs.length];
  showKind(next.dataset.kind);
  next.focus();
});

async function copyWith(button, text) {
  const label = button.textContent;
  await copy(text);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = label), 1200);
}

byId("copy").addEventListener("click", ({ target }) => copyWith(target, snippets[kind]));
byId("link").addEventListener("click", ({ target }) => copyWith(target, link()));
byId("copy-session").addEventListener("click", ({ target }) => copyWith(target, JSON.stringify(shown, null, 2)));

// The form

function changed() {
  byId("note").textContent = keep() ? "A value that looks like a key or an e-mail address is neither in the link nor kept." : "";
  clearTimeout(typing);
  typing = setTimeout(showSnippets, 150);
}

for (const source of [form, byId("connection")]) source.addEventListener("input", changed);
byId("created-kind").addEventListener("change", showCreated);
byId("time-zone").addEventListener("change", () => {
  showInZone();
  changed();
});
form.addEventListener("reset", (event) => {
  // The connection stays.
  event.preventDefault();
  for (const input of form.querySelectorAll("input, select")) {
    if (input.type === "checkbox") input.checked = false;
    else if (input.id !== "time-zone") input.value = input.options ? input.options[0].value : "";
  }
  showCreated();
  changed();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});

// Stripe's answer

async function ask(address, outcome) {
  pending?.abort();
  pending = new AbortController();
  outcome.textContent = "Waiting for Stripe …";
  const began = performance.now();
  let answer;
  try {
    answer = await get(address, pending.signal);
  } catch (error) {
    if (error.name === "AbortError") return null;
    answer = { status: 0, headers: new Headers(), body: { detail: "Airflow cannot be reached." } };
  }
  const milliseconds = Math.round(performance.now() - began);
  const status = document.createElement("b");
  status.textContent = answer.status || "—";
  status.className = answer.status === 200 ? "ok" : "bad";
  const facts = [`${milliseconds} ms`];
  if (answer.body?.data) facts.push(`${answer.body.data.length} session${answer.body.data.length === 1 ? "" : "s"}`);
  if (answer.headers.get("Request-Id")) facts.push(answer.headers.get("Request-Id"));
  outcome.replaceChildren(status, ` · ${facts.join(" · ")}`);
  return answer;
}

function showProblem(answer) {
  const box = byId("problem");
  box.hidden = answer.status === 200;
  if (box.hidden) return;
  const { message, hint, code } = problemOf(answer);
  const title = document.createElement("b");
  title.textContent = code ? `${code}: ${message}` : message;
  const more = document.createElement("p");
  more.textContent = hint ?? "";
  box.replaceChildren(title, more);
}

async function send() {
  if (!connection()) {
    byId("connection").focus();
    byId("outcome").textContent = "Choose a connection first.";
    return;
  }
  const asked = query();
  const answer = await ask(`${base()}/${SESSIONS}?${asked}`, byId("outcome"));
  if (!answer) return;
  showProblem(answer);
  const page = answer.status === 200 ? answer.body : { data: [], has_more: false };
  const account = answer.headers.get("Stripe-Account");
  byId("sessions").tBodies[0].replaceChildren(...page.data.map((session) => row(session, account, openSession)));
  byId("sessions").hidden = page.data.length === 0;
  byId("empty").hidden = answer.status !== 200 || page.data.length > 0;
  // Stripe says whether there is more in the direction of reading; where we came from, there is.
  const backwards = asked.has("ending_before");
  const [newer, older] = backwards ? [page.has_more, true] : [asked.has("starting_after"), page.has_more];
  byId("previous").disabled = !(newer && page.data.length);
  byId("next").disabled = !(older && page.data.length);
  byId("previous").onclick = () => turn("ending_before", page.data[0].id);
  byId("next").onclick = () => turn("starting_after", page.data.at(-1).id);
}

function turn(name, id) {
  setCursor(name, id);
  changed();
  send();
}

// One session

function openSession(session) {
  shown = session;
  byId("session-id").textContent = session.id;
  byId("session-outcome").textContent = "";
  byId("json").replaceChildren(tree(session));
  if (!byId("session").open) byId("session").showModal();
}

byId("reload").addEventListener("click", async () => {
  const asked = new URLSearchParams();
  for (const path of query().getAll("expand[]")) asked.append("expand[]", path.replace(/^data\./, ""));
  const answer = await ask(`${base()}/${SESSIONS}/${encodeURIComponent(shown.id)}?${asked}`, byId("session-outcome"));
  if (answer?.status === 200) {
    shown = answer.body;
    byId("json").replaceChildren(tree(shown));
  } else if (answer) {
    const { message, hint } = problemOf(answer);
    byId("session-outcome").append(` · ${message} ${hint ?? ""}`);
  }
});
byId("close").addEventListener("click", () => byId("session").close());

// The start

followTheme();
restore();
showKind(kind);
const usable = await get("connections");
const ids = usable.body?.connections ?? [];
byId("connections").replaceChildren(...ids.map((id) => Object.assign(document.createElement("option"), { value: id })));
if (!connection() && ids.length) byId("connection").value = ids.includes("stripe_identity_default") ? "stripe_identity_default" : ids[0];
if (usable.status === 401) showProblem(usable);
changed();
