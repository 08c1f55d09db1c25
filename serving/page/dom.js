/* Elements, and numbers as people read them. Text goes in as text: never as HTML. */

export const byId = (id) => document.getElementById(id);

/** make("p", {className: "quiet"}, "text", child): an element with properties and children. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Shows what went wrong in an element with role alert, or hides it for "". */
export function tell(element, message) {
  element.textContent = message;
  element.hidden = !message;
}

export function seconds(s) {
  if (!Number.isFinite(s)) return "–";
  return s < 1 ? `${short(s * 1000)} ms` : `${short(s)} s`;
}

export function bytes(n) {
  if (!Number.isFinite(n)) return "–";
  const units = ["bytes", "KiB", "MiB", "GiB"];
  const power = Math.min(Math.floor(Math.log2(Math.max(n, 1)) / 10), 3);
  return `${short(n / 2 ** (10 * power))} ${units[power]}`;
}

/** About three digits. */
export function short(x) {
  const digits = Math.abs(x) >= 100 ? 0 : Math.abs(x) >= 10 ? 1 : 2;
  return x.toLocaleString("en", { maximumFractionDigits: digits });
}
