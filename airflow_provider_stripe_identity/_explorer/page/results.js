// Sessions as a table and as folding JSON. Whatever they hold is text: nothing here parses HTML.
import { openTab } from "./airflow.js";

const STATUSES = ["canceled", "processing", "requires_input", "verified"];

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Any value as one line. */
function line(value) {
  return value === null || value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value);
}

// <bdi> keeps right-to-left marks from reordering what stands around them.
function cell(value) {
  const text = line(value);
  return element("td", { title: text.slice(0, 500) }, element("bdi", { textContent: text }));
}

export function dashboard(session, account) {
  const parts = ["https://dashboard.stripe.com", account, session.livemode === false ? "test" : null, "identity/verification-sessions", encodeURIComponent(session.id)];
  return parts.filter(Boolean).join("/");
}

/** A row of the table. */
export function row(session, account, open) {
  const created = new Date(session.created * 1000);
  const utc = `${created.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  const local = created.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const known = STATUSES.includes(session.status) ? ` ${session.status}` : "";
  const link = element("a", { href: dashboard(session, account), textContent: "↗", title: "Stripe Dashboard", rel: "noopener noreferrer" });
  link.setAttribute("aria-label", "Open in the Stripe Dashboard");
  link.addEventListener("click", (event) => {
    event.preventDefault();
    openTab(link.href);
  });
  const id = element("button", { type: "button", className: "mono", title: session.id }, element("bdi", { textContent: session.id }));
  id.addEventListener("click", () => open(session));
  return element(
    "tr",
    {},
    element("td", {}, utc, element("small", { textContent: local })),
    element("td", {}, element("span", { className: `status${known}` }, element("bdi", { textContent: line(session.status) }))),
    element("td", {}, id),
    cell(session.client_reference_id),
    cell(session.type),
    cell(session.last_error?.code),
    element("td", {}, link),
  );
}

/** A value as JSON that folds. */
export function tree(value, key = null, open = true) {
  const name = key === null ? null : element("span", { className: "key" }, element("bdi", { textContent: JSON.stringify(key) }), ": ");
  if (value === null || typeof value !== "object") {
    const kind = typeof value === "string" ? "s" : typeof value === "number" ? "n" : "k";
    const shown = element("span", { className: kind }, element("bdi", { textContent: JSON.stringify(value) }));
    return element("div", {}, name, shown);
  }
  const entries = Array.isArray(value) ? value.map((item) => [null, item]) : Object.entries(value);
  const [start, end] = Array.isArray(value) ? "[]" : "{}";
  if (entries.length === 0) return element("div", {}, name, start + end);
  const inside = element("div", {}, ...entries.map(([entry, item]) => tree(item, entry, entries.length < 60)));
  return element("details", { open }, element("summary", {}, name, start, element("span", { className: "c", textContent: ` ${entries.length} ` }), end), inside);
}
