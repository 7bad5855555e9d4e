// Enough colour for short pieces of shell, Python and TypeScript.

const TOKENS = /("""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\])*')|((?:#|\/\/ ).*$)|\b(import|from|with|for|in|of|as|const|new|await|return|def|curl)\b|(?<=[\s(:=[])(\d+)(?=[\s),\]}]|$)/gm;
const CLASSES = ["s", "c", "k", "n"];

/** Show code in an element. */
export function showCode(code, target) {
  target.replaceChildren();
  let end = 0;
  for (const found of code.matchAll(TOKENS)) {
    const span = document.createElement("span");
    span.className = CLASSES[found.slice(1).findIndex((group) => group !== undefined)];
    span.textContent = found[0];
    target.append(code.slice(end, found.index), span);
    end = found.index + found[0].length;
  }
  target.append(code.slice(end));
}
