// The page in Airflow: its theme, its frame, its login.

// Airflow's window when the page lies in a frame of it; another origin's is out of reach.
function airflowWindow() {
  try {
    return window.parent !== window && window.parent.document ? window.parent : null;
  } catch {
    return null;
  }
}

export const airflow = airflowWindow();

/** Follow Airflow's light or dark theme, also when it changes. */
export function followTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const classes = airflow?.document.documentElement.classList;
    let theme = classes?.contains("dark") ? "dark" : classes?.contains("light") ? "light" : localStorage.getItem("theme");
    if (theme !== "dark" && theme !== "light") theme = system.matches ? "dark" : "light";
    document.documentElement.dataset.theme = theme;
  };
  apply();
  system.addEventListener("change", apply);
  window.addEventListener("storage", apply);
  if (airflow) new MutationObserver(apply).observe(airflow.document.documentElement, { attributeFilter: ["class"] });
}

/** GET a relative address. Airflow 3.0 keeps its token in the storage, newer versions in a cookie. */
export async function get(address, signal) {
  const token = localStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token.replace(/^"|"$/g, "")}` } : {};
  const response = await fetch(address, { headers, signal, cache: "no-store" });
  let body = null;
  try {
    body = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  return { status: response.status, headers: response.headers, body };
}

/** Say what went wrong, from Stripe's error or Airflow's. */
export function problemOf({ status, body }) {
  if (status === 401) return { message: "You are not logged in to Airflow, or no longer.", hint: "Log in, then send again." };
  if (status === 403 && !body?.error) {
    return { message: "You may not use this connection.", hint: "It takes the permission to test it: to create connections, and to read this one." };
  }
  const error = body?.error;
  if (error) return { message: error.message, hint: error.hint, code: error.code ?? error.type };
  return { message: typeof body?.detail === "string" ? body.detail : `Airflow answered ${status}.` };
}

/** Open another site in a tab of its own: Airflow's frame may not, Airflow itself may. */
export function openTab(address) {
  const owner = airflow?.document ?? document;
  const link = owner.createElement("a");
  Object.assign(link, { href: address, target: "_blank", rel: "noopener noreferrer" });
  owner.body.append(link);
  link.click();
  link.remove();
}

/** Copy a text, also where the page came over plain http. */
export async function copy(text) {
  if (navigator.clipboard) {
    try {
      return await navigator.clipboard.writeText(text);
    } catch {
      // not allowed here: the older way
    }
  }
  const area = document.createElement("textarea");
  area.value = text;
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
