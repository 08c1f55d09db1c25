// What the reader does: one view object, one render, and the hash that remembers where they are.

const END = LAST ? LAST + 1 : 0; // the positions: 0 the start, 1..LAST after a trial, END trained
const MANY = 140; // connections that a fresh view shows at most

const view = {
  position: END,
  kinds: new Set(KINDS),
  hidden: Math.max(0, Math.ceil(100 * (1 - MANY / Math.max(1, ascending.length)))),
  pinned: null,
  pointed: null,
  network: networkAfter(END),
  get active() {
    const id = this.pointed ?? this.pinned;
    return this.network.clusters.has(id) ? id : null;
  },
  /** The one cluster that Tab stops at. */
  get stop() {
    return this.active ?? inOrder()[0];
  },
};

const inOrder = () => [...view.network.clusters.values()].sort((a, b) => a.level - b.level || a.id - b.id).map((c) => c.id);

function render() {
  const shown = drawNetwork(view);
  updateKinds(view.network, view, shown);
  drawDetails(view, pin);
  if (LAST) {
    byId("trial").value = view.position;
    drawCaption(view);
    moveCursor(view.position);
  }
}

function remember() {
  const parts = [];
  if (view.position !== END) parts.push(`trial=${view.position}`);
  if (view.pinned !== null) parts.push(`cluster=${view.pinned}`);
  window.history.replaceState(null, "", `#${parts.join("&")}`);
}

function recall() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const position = wanted.has("trial") ? Number(wanted.get("trial")) : END;
  view.pinned = wanted.has("cluster") ? Number(wanted.get("cluster")) : null;
  view.position = Number.isInteger(position) ? Math.max(0, Math.min(END, position)) : END;
  view.network = networkAfter(view.position);
  render();
}

function go(position) {
  view.position = Math.max(0, Math.min(END, position));
  view.network = networkAfter(view.position);
  remember();
  render();
}

function pin(id) {
  view.pinned = id;
  view.pointed = null;
  remember();
  render();
}

function point(id) {
  if (view.pointed === id) return;
  view.pointed = id;
  render();
}

// ------------------------------------------------------------------ pointer and keys

const clusterAt = (event) => {
  const node = event.target.closest?.(".node");
  return node ? Number(node.dataset.id) : null;
};
stage.addEventListener("pointerover", (event) => event.pointerType === "mouse" && point(clusterAt(event)));
stage.addEventListener("pointerleave", () => point(null));
/** For a finger: the cluster within reach of a tap that hit none. */
function clusterNear(event) {
  const box = stage.getBoundingClientRect();
  const far = ([x, y]) => Math.hypot(event.clientX - box.left - x, event.clientY - box.top - y);
  const found = [...view.network.clusters.values()].map((c) => [far(layout.places.get(placeKey(c))), c.id]).sort((a, b) => a[0] - b[0])[0];
  return found[0] < 18 ? found[1] : null;
}
stage.addEventListener("click", (event) => {
  const id = clusterAt(event) ?? clusterNear(event);
  pin(id === view.pinned ? null : id);
});
stage.addEventListener("focusin", (event) => point(clusterAt(event)));
stage.addEventListener("focusout", () => point(null));
stage.addEventListener("keydown", (event) => {
  const ids = inOrder();
  const at = Math.max(0, ids.indexOf(clusterAt(event)));
  const moves = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowUp: level(ids, at, 1), ArrowDown: level(ids, at, -1), Home: 0, End: ids.length - 1 };
  if (event.key === "Enter" || event.key === " ") pin(view.pinned === ids[at] ? null : ids[at]);
  else if (event.key in moves) focusOn(ids[Math.max(0, Math.min(ids.length - 1, moves[event.key]))]);
  else return;
  event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") pin(null);
});

/** The index of the first cluster one level up or down, or `at`. */
function level(ids, at, by) {
  const levelOf = (id) => view.network.clusters.get(id).level;
  const next = levels[levels.indexOf(levelOf(ids[at])) + by];
  const found = ids.findIndex((id) => levelOf(id) === next);
  return found < 0 ? at : found;
}

function focusOn(id) {
  nodes.get(placeKey(view.network.clusters.get(id))).focus();
}

// ------------------------------------------------------------------ controls

byId("threshold").value = view.hidden;
byId("threshold").addEventListener("input", (event) => {
  view.hidden = Number(event.target.value);
  render();
});
drawKinds(view, (kind, on) => {
  view.kinds[on ? "add" : "delete"](kind);
  render();
});

const themes = ["system", "light", "dark"];
byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const next = themes[(themes.indexOf(root.dataset.theme ?? "system") + 1) % themes.length];
  root.dataset.theme = next;
  byId("theme").textContent = `Theme: ${next}`;
});

let timer = null;
function play(on) {
  clearInterval(timer);
  timer = on ? setInterval(() => (view.position < END ? go(view.position + 1) : play(false)), 700) : null;
  byId("play").textContent = on ? "Pause" : "Play";
  byId("caption").setAttribute("aria-live", on ? "off" : "polite");
}
byId("play").addEventListener("click", () => {
  if (timer === null && view.position === END) go(0);
  play(timer === null);
});
byId("back").addEventListener("click", () => go(view.position - 1));
byId("on").addEventListener("click", () => go(view.position + 1));
byId("trial").max = END;
byId("trial").addEventListener("input", (event) => {
  play(false);
  go(Number(event.target.value));
});

// ------------------------------------------------------------------ begin

document.title = `${data.name}: topology`;
byId("name").textContent = data.name;
byId("summary").textContent = data.facts.filter((f) => ["clusters", "connections", "depth", "parameters"].includes(f.label)).map((f) => `${f.label} ${f.value}`).join(" · ");
byId("hint").textContent = data.input.text
  ? "Every cluster stands at the lags it sees: the last token at the right, the past at the left (logarithmic). Bars are its intervals; its size, the neurons."
  : `Every cluster stands on the patch it sees, one plane of ${data.input.height} × ${data.input.width} pixels a level; its size, the neurons. Links bend to the right of their direction.`;
byId("replay").hidden = !LAST;
byId("note").hidden = Boolean(LAST);
byId("note").textContent = `The final network only: ${data.note || "no trial is logged"}.`;
drawFacts();
drawSimilarity();

new ResizeObserver(() => {
  drawFrames(byId("stage").clientWidth);
  if (LAST) drawChart(byId("replay").clientWidth, go);
  recall();
}).observe(byId("stage"));
window.addEventListener("hashchange", recall);
