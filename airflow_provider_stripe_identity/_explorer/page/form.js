// The form and the request that it stands for, as query parameters in Stripe's form.
import { airflow } from "./airflow.js";

const TEXTS = ["client_reference_id", "limit", "related_customer", "related_customer_account", "starting_after", "ending_before", "status"];
const STORED = "stripe-identity-explorer";
// What looks like a key, a credential or an e-mail address is kept nowhere.
const PRIVATE = /@|(?:sk|rk|pk|ek)_|_secret_|verify\.stripe\.com/;

const byId = (id) => document.getElementById(id);
export const form = byId("request");
const boxes = [...form.querySelectorAll("input[name=expand]")];

export const connection = () => byId("connection").value.trim();

/** The endpoint's parameters that are filled in. */
export function query() {
  const pairs = new URLSearchParams();
  for (const name of TEXTS) {
    const value = byId(name).value;
    if (value !== "") pairs.append(name, value);
  }
  const kind = byId("created-kind").value;
  const add = (name, input) => {
    const seconds = secondsOf(byId(input).value);
    if (seconds !== null) pairs.append(name, seconds);
  };
  if (kind === "exact") add("created", "created-exact");
  if (kind === "interval") {
    add(`created[${byId("created-start-kind").value}]`, "created-start");
    add(`created[${byId("created-end-kind").value}]`, "created-end");
  }
  const others = byId("expand-other").value.split(",").map((path) => path.trim()).filter(Boolean);
  for (const path of [...boxes.filter((box) => box.checked).map((box) => box.value), ...others]) pairs.append("expand[]", path);
  return pairs;
}

/** Go to another page of the list. */
export function setCursor(name, id) {
  byId("starting_after").value = name === "starting_after" ? id : "";
  byId("ending_before").value = name === "ending_before" ? id : "";
}

/** Show the inputs that the kind of `created` needs. */
export function showCreated() {
  byId("created-exact").hidden = byId("created-kind").value !== "exact";
  byId("created-interval").hidden = byId("created-kind").value !== "interval";
}

/** Change the time zone, not the moments. */
export function showInZone() {
  for (const id of ["created-exact", "created-start", "created-end"]) {
    const seconds = secondsOf(byId(id).value, shownZone);
    if (seconds !== null) byId(id).value = textOf(seconds);
  }
  shownZone = byId("time-zone").value;
}

let shownZone = "utc";

function secondsOf(text, zone = byId("time-zone").value) {
  const milliseconds = Date.parse(zone === "utc" ? `${text}Z` : text);
  return Number.isNaN(milliseconds) ? null : Math.floor(milliseconds / 1000);
}

function textOf(seconds) {
  const local = byId("time-zone").value === "local" ? new Date(seconds * 1000).getTimezoneOffset() * 60 : 0;
  return new Date((seconds - local) * 1000).toISOString().slice(0, 19);
}

/** Keep the form in the browser and in the address, after the #: that part is sent to no server. */
export function keep() {
  const kept = new URLSearchParams({ connection: connection() });
  let left = false;
  for (const [name, value] of query()) {
    if (PRIVATE.test(value)) left = true;
    else kept.append(name, value);
  }
  localStorage.setItem(STORED, kept);
  for (const page of [window, airflow]) {
    // In full: a relative address would start from Airflow's <base>.
    page?.history.replaceState(page.history.state, "", `${page.location.pathname}${page.location.search}#${kept}`);
  }
  return left;
}

/** The address that opens the page with this form. */
export const link = () => (airflow ?? window).location.href;

/** Fill the form from the address, else from the browser's storage. */
export function restore() {
  const said = [location.hash, airflow?.location.hash].find((hash) => hash?.length > 1)?.slice(1);
  const kept = new URLSearchParams(said ?? localStorage.getItem(STORED) ?? "");
  const others = [];
  for (const [name, value] of kept) {
    const bound = name.match(/^created\[(gte?|lte?)\]$/)?.[1];
    if (TEXTS.includes(name) || name === "connection") byId(name).value = value;
    else if (name === "created") fill("exact", "created-exact", value);
    else if (bound) {
      const side = bound.startsWith("g") ? "created-start" : "created-end";
      byId(`${side}-kind`).value = bound;
      fill("interval", side, value);
    } else if (name === "expand[]") {
      const box = boxes.find((candidate) => candidate.value === value);
      if (box) box.checked = true;
      else others.push(value);
    }
  }
  byId("expand-other").value = others.join(", ");
  form.querySelector("details").open = ["related_customer", "related_customer_account", "starting_after", "ending_before"].some((name) => byId(name).value);
  showCreated();
}

function fill(kind, id, seconds) {
  if (!/^\d{1,12}$/.test(seconds)) return;
  byId("created-kind").value = kind;
  byId(id).value = textOf(Number(seconds));
}
